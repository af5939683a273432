"""A web process, and what can be asked of it and about it."""

from __future__ import annotations

import httpx
import psutil

from tests.eventually import eventually
from tests.integration.faces import token
from tests.integration.orchestration.processes import free_port

SCOPES = ("runs.*", "departments.*")


class Web:
    def __init__(self, started, **changes: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = started(
            "-m", "uvicorn", "config.asgi:application", "--host", "127.0.0.1",
            "--port", str(self.port), "--lifespan=off", "--no-access-log",
            "--timeout-graceful-shutdown", "20", **changes,
        )  # fmt: skip
        self.client = httpx.Client(base_url=self.url, headers=self.headers(), timeout=30)
        eventually(self._is_there, within=60, what=self.process.log)

    @staticmethod
    def headers(*scopes, **how) -> dict[str, str]:
        bearer = token(*(scopes or SCOPES), **{"ttl_seconds": 600, **how})
        return {"Authorization": f"Bearer {bearer}"}

    def _is_there(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def threads(self) -> int:
        return psutil.Process(self.process.pid).num_threads()
