"""Web behind networks that swallow what is sent: runs are accepted, and soon again."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time

import httpx
import pytest

from engine.models import Run
from tests.chaos.network.platform import BOUND
from tests.eventually import eventually
from tests.integration.orchestration.processes import ROOT, free_port

# A line a request would hide the measured times.
logging.getLogger("httpx").setLevel(logging.WARNING)
pytestmark = pytest.mark.timeout(120)
#: What a submission may take while Redis swallows everything: one try of the publisher, in seconds.
ACCEPTED_WITHIN = 2.0


class Web:
    """The web process, and a client with a token."""

    def __init__(self, started, environment, **addresses: str) -> None:
        port = free_port()
        self.process = started(
            "-m", "uvicorn", "config.asgi:application", "--host", "127.0.0.1", "--port", str(port),
            "--lifespan=off", "--no-access-log", **addresses,
        )  # fmt: skip
        mint = (sys.executable, "manage.py", "mint_jwt", "--scopes", "runs.read,runs.write")
        token = subprocess.run(
            mint, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=40,
        )
        eventually(self._is_there, within=30, what=self.process.log)

    def _is_there(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def submit(self) -> tuple[int, float]:
        """Submit a run; return the answer's status, 0 without one, and the seconds it took."""
        body = json.dumps({"automation": "lab.squares", "input": {"count": 1}})
        began = time.monotonic()
        try:
            status = self.client.post("/runs", content=body).status_code
        except httpx.HTTPError:
            status = 0
        return status, time.monotonic() - began


@pytest.fixture
def web(database_proxy, redis_proxy, environment, started):
    found = Web(started, environment, DATABASE_URL=database_proxy.url, REDIS_URL=redis_proxy.url)
    yield found
    database_proxy.heal()
    redis_proxy.heal()
    found.client.close()


def test_web__accepts_runs_while_redis_is_blackholed(web, redis_proxy):
    assert web.submit()[0] == 201
    redis_proxy.blackhole()
    answers = [web.submit() for _ in range(40)]
    slowest = max(seconds for _, seconds in answers)
    print(
        f"\nPOST /runs, Redis blackholed: slowest of 40 {slowest:.2f} s (bound {ACCEPTED_WITHIN} s)"
    )
    assert {status for status, _ in answers} == {201}
    assert slowest <= ACCEPTED_WITHIN
    assert Run.objects.count() == len(answers) + 1
    eventually(lambda: web.client.get("/readyz").status_code == 503, within=20)
    began = time.monotonic()
    redis_proxy.heal()
    eventually(lambda: web.client.get("/readyz").status_code == 200, within=60)
    print(f"ready {time.monotonic() - began:.1f} s after the fault (bound {BOUND:g} s)")
    assert time.monotonic() - began <= BOUND
    assert web.process.poll() is None


def test_web__its_pool_gives_up_half_open_connections(web, database_proxy):
    assert web.submit()[0] == 201
    began = time.monotonic()
    database_proxy.forget()
    tries = []

    def accepted() -> bool:
        tries.append(web.submit())
        return tries[-1][0] == 201

    eventually(accepted, within=60, what=web.process.log)
    took = time.monotonic() - began
    print(
        f"\nPOST /runs, database half-open: accepted after {took:.1f} s (bound {BOUND:g} s)", tries
    )
    eventually(lambda: web.client.get("/readyz").status_code == 200, within=60)
    took = time.monotonic() - began
    print(f"ready after {took:.1f} s (bound {BOUND:g} s)")
    assert took <= BOUND
    assert web.process.poll() is None
