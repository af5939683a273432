"""The installation that suffers: `manage.py up` with several workers, and a second manager."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.embedded import processes
from tests.acceptance.stack import ROOT, Stack
from tests.chaos.soak import fast_paths, marks

if TYPE_CHECKING:
    from pathlib import Path

WORKERS, CONCURRENCY, ORCHESTRATOR_CONCURRENCY = 2, 2, 2
#: Pool children by the name of their parent.
CHILDREN = {
    "orchestrator": ORCHESTRATOR_CONCURRENCY,
    **{f"worker{number + 1}": CONCURRENCY for number in range(WORKERS)},
}
WORKER_NAMES = tuple(name for name in CHILDREN if name != "orchestrator")
SECOND_MANAGER = "manager2"
SECOND_MANAGER_SHIFT = 7
LEASE_SECONDS = 3.0
SCOPES = "runs.read,runs.write,dead_letters.read,dead_letters.write,departments.write"
ANSWER_SECONDS = 2.0
BOOKS_LIMIT = 32


class Platform:
    """Start it, find its processes, talk to its servers, end it."""

    def __init__(self, folder: Path, *, token_seconds: int) -> None:
        self.folder = folder
        for name in ("side", "tmp", fast_paths.FOLDER):
            (folder / name).mkdir()
        self._token_seconds = token_seconds
        self.stack = Stack(
            folder,
            options=("--workers", str(WORKERS), "--concurrency", str(CONCURRENCY)),
            LEASE_SECONDS=str(LEASE_SECONDS),
            CANCEL_GRACE_SECONDS="1",
            CATALOG_PACKAGES="tests.chaos.soak.catalog",
            # A worker that ends while Redis is away dumps what it cannot give back.
            TMPDIR=str(folder / "tmp"),
            **{marks.FOLDER: str(folder)},
        )
        self._http = httpx.Client(timeout=ANSWER_SECONDS, trust_env=False)
        self._second: subprocess.Popen[bytes] | None = None
        self._second_due = 0.0

    def start(self) -> None:
        """Start everything and wait until it is healthy."""
        self.stack.start()
        self.token = self.stack.manage(
            "mint_jwt", "--scopes", SCOPES, "--ttl", str(self._token_seconds), "--subject", "soak"
        ).strip()
        self.stack.execute(marks.TABLES)
        # One lane with a limit: its steps pass by the dispatcher's credit, the other's do not.
        self.stack.execute(
            "UPDATE engine_lane SET max_concurrency = %s WHERE slug = 'books'", BOOKS_LIMIT
        )
        self.tend()

    def tend(self) -> None:
        """Start the second manager again when it has died: `up` minds only what it started."""
        if self._second is not None and self._second.poll() is None:
            return
        if time.monotonic() < self._second_due:
            return
        self._second_due = time.monotonic() + 1.0
        with (self.stack.var / "log" / f"{SECOND_MANAGER}.out").open("ab") as output:
            self._second = subprocess.Popen(
                [
                    *(sys.executable, "manage.py", "manager"),
                    *("--port", str(self._manager_port(SECOND_MANAGER))),
                    *("--instance", str(SECOND_MANAGER_SHIFT)),
                ],
                cwd=ROOT,
                env=self.stack.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> list[str]:
        """End everything; return what did not end by itself."""
        if self._second is not None and self._second.poll() is None:
            self._second.terminate()
            try:
                self._second.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._second.kill()
                self._second.wait()
        started = self.stack.process
        if started is not None and started.poll() is None:
            started.terminate()
            try:
                started.wait(timeout=60)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
        return self._end_leftovers()

    def _end_leftovers(self) -> list[str]:
        deadline = time.monotonic() + 15
        while (left := self.stack.leftovers()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for line in left:
            try:
                psutil.Process(int(line.partition(":")[0])).kill()
            except (psutil.Error, ValueError):
                continue
        return left

    # --- its processes ----------------------------------------------------------------------
    def process(self, name: str) -> psutil.Process | None:
        """Return the live process of this name: a child of `up`, a server, or `manager2`."""
        if name == SECOND_MANAGER:
            second = self._second
            alive = second is not None and second.poll() is None
            return psutil.Process(second.pid) if alive else None
        if name in {"postgres", "redis"}:
            record = self._read(f"{name}.json") or {}
            return processes.find(record.get("server")) if record.get("ready") else None
        for known in self._read("processes.json") or []:
            if known.get("name") == name:
                return processes.find(known)
        return None

    def pool(self, name: str) -> list[psutil.Process]:
        """Return the pool children of a worker."""
        parent = self.process(name)
        try:
            found = parent.children() if parent else []
            # Its exporter of metrics is none of them.
            return [
                child
                for child in found
                if child.status() != psutil.STATUS_ZOMBIE and "celery" in child.cmdline()
            ]
        except psutil.Error:
            return []

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.stack.var / "run" / name).read_text())
        except (OSError, ValueError):
            return None

    # --- its servers and faces --------------------------------------------------------------
    def database(self) -> psycopg.Connection:
        """Return a new connection; raises psycopg.OperationalError while the database is away."""
        return psycopg.connect(
            self.stack.database_url, autocommit=True, connect_timeout=3, application_name="soak"
        )

    def database_answers(self) -> bool:
        """Tell whether the database takes connections."""
        try:
            with self.database() as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def redis(self) -> redis.Redis:
        """Return a client that never tries again by itself."""
        return redis.Redis.from_url(
            self.stack.redis_url,
            decode_responses=True,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def redis_files(self) -> list[Path]:
        """Return what Redis has written down."""
        folder = self.stack.var / "redis"
        return [*folder.glob("appendonly*"), *folder.glob("*.rdb"), *folder.glob("temp-*")]

    def answers(self, name: str) -> bool:
        """Tell whether web or a manager answers about its health, well or not."""
        path = f"{self.stack.url}/livez"
        if name != "web":
            path = f"http://127.0.0.1:{self._manager_port(name)}/health"
        try:
            return self._http.get(path).status_code in {200, 503}
        except httpx.HTTPError:
            return False

    def _manager_port(self, name: str) -> int:
        return 8080 + self.stack.shift + (SECOND_MANAGER_SHIFT if name == SECOND_MANAGER else 0)

    def join(self) -> None:
        """Let this process use the engine's own doors, as a command of the installation does."""
        os.environ.update(
            {
                name: value
                for name, value in self.stack.environment.items()
                if name in {"VAR_DIR", "LEASE_SECONDS", "CATALOG_PACKAGES", marks.FOLDER}
            }
            | {
                "DATABASE_URL": self.stack.database_url,
                "REDIS_URL": self.stack.redis_url,
                "DJANGO_SETTINGS_MODULE": "config.settings.local",
                "LOG_LEVEL": "CRITICAL",
            }
        )
        import django  # noqa: PLC0415 - settings are read by this

        django.setup()
