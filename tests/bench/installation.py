"""The measured installation: the platform as `up` ships it, and the two baselines beside it.

One folder, one PostgreSQL and one Redis for all three sides. Nothing that users get is off: leases
of 30 s, web, manager, orchestrator, Flower, the shipped settings of both servers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any

import psycopg

from config.embedded import processes
from tests.acceptance.stack import ROOT, Stack
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import psutil

SIDES = ("raw", "durable", "ours")
BASELINES = ("raw", "durable")
CHILDREN = 2
LEASE_SECONDS = 30
CATALOG = "tests.bench.catalog"
DURABLE_DATABASE = "bench_durable"
START_SECONDS = 60
STOP_SECONDS = 60


class DriverError(RuntimeError):
    """Say that a side's driver ended."""


class Installation:
    """Start everything, name its processes, pass orders to its drivers, end it.

    `postgres` holds settings of the server beside the shipped ones, as `ALTER SYSTEM` takes them
    (for example a commit that takes as long as on a slow disk). Only such as need no restart.
    """

    def __init__(
        self, folder: Path, *, postgres: Mapping[str, str] | None = None, **environment: str
    ) -> None:
        self.folder = folder
        self.stack = Stack(
            folder,
            options=("--workers", "1", "--concurrency", str(CHILDREN)),
            **{
                "LEASE_SECONDS": str(LEASE_SECONDS),
                "CATALOG_PACKAGES": CATALOG,
                **environment,
            },
        )
        self._postgres = dict(postgres or {})
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._drivers: dict[str, Driver] = {}

    # --- life -------------------------------------------------------------------------------
    def start(self) -> None:
        """Start the platform, then the baselines' workers, then a driver for each side."""
        self.stack.start()
        self._set_postgres()
        self.stack.execute(f"CREATE DATABASE {DURABLE_DATABASE}")
        self._run([sys.executable, "-m", "tests.bench.baseline.tables"])
        for side in BASELINES:
            self._workers[side] = self._start_worker(side)
        for side in SIDES:
            self._drivers[side] = Driver(side, self.environment, self.folder / f"driver-{side}.log")
        for driver in self._drivers.values():
            driver.expect_ready()

    def stop(self) -> list[str]:
        """End everything; return what had to be ended by force."""
        for driver in self._drivers.values():
            driver.close()
        for worker in self._workers.values():
            worker.terminate()
        left = []
        for side, worker in self._workers.items():
            try:
                worker.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                left.append(f"worker of {side}")
                _end_group(worker)
        if self.stack.process is not None and self.stack.process.poll() is None:
            try:
                self.stack.stop(within=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                left.append("up")
                _end_group(self.stack.process)
        return left + self.stack.leftovers()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of whatever belongs to this installation."""
        return self.stack.environment | {
            "DATABASE_URL": self.stack.database_url,
            "REDIS_URL": self.stack.redis_url,
        }

    def _set_postgres(self) -> None:
        for name, value in self._postgres.items():
            self.stack.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.stack.execute("SELECT pg_reload_conf()")
        for name in self._postgres:
            # What needs a restart would be measured without it, and believed.
            def in_force(name: str = name) -> bool:
                return self.stack.rows(
                    "SELECT source = 'configuration file' AND NOT pending_restart"
                    " FROM pg_settings WHERE name = %s",
                    name,
                )[0][0]

            eventually(in_force, within=10, what=f"{name} is in force")

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True)

    def _start_worker(self, side: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-q", "-A", f"tests.bench.baseline.{side}"]
        command += ["worker", "-Q", side, "-n", f"{side}@%h", "-c", str(CHILDREN), "-l", "WARNING"]
        command += ["-Ofair", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with (self.folder / f"worker-{side}.log").open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment | {"PYTHONWARNINGS": "ignore:You're running the worker"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Left behind by a killed bench they would disturb whatever is measured next.
                preexec_fn=processes.die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - no threads
            )

    # --- use --------------------------------------------------------------------------------
    def drive(self, side: str, do: str, **values: Any) -> dict[str, Any]:
        """Let a side's driver do something; return its answer."""
        self.order(side, do, **values)
        return self.answer(side)

    def order(self, side: str, do: str, **values: Any) -> None:
        """Let a side's driver begin something."""
        self._drivers[side].order(do, **values)

    def answer(self, side: str) -> dict[str, Any]:
        """Wait for the answer to an order."""
        return self._drivers[side].answer()

    def rows(self, statement: str, *values: Any) -> list[tuple]:
        """Ask the platform's database."""
        return self.stack.rows(statement, *values)

    def connect(self) -> psycopg.Connection:
        """Return a connection of one's own to the platform's database."""
        return psycopg.connect(self.stack.database_url, autocommit=True, application_name="bench")

    # --- its processes ----------------------------------------------------------------------
    def process(self, name: str) -> psutil.Process | None:
        """Return a process by name: a service of `up`, a server, `up` itself."""
        if name in {"postgres", "redis"}:
            record = self._record(f"{name}.json") or {}
            return processes.find(record.get("server"))
        if name == "up":
            return self.stack.find("up")
        for known in self._record("processes.json") or []:
            if known.get("name") == name:
                return processes.find(known)
        return None

    def driver_pid(self, side: str) -> int:
        """Return the process of a side's driver."""
        return self._drivers[side].pid

    def worker_pid(self, side: str) -> int:
        """Return the parent of a baseline's worker."""
        return self._workers[side].pid

    def _record(self, name: str) -> Any:
        try:
            return json.loads((self.stack.var / "run" / name).read_text())
        except (OSError, ValueError):
            return None


class Driver:
    """The other end of `tests.bench.driver`."""

    def __init__(self, side: str, environment: Mapping[str, str], log: Path) -> None:
        self.side = side
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.driver", side],
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return its process."""
        return self._process.pid

    def expect_ready(self) -> None:
        """Wait until it has loaded its side."""
        self.answer()

    def order(self, do: str, **values: Any) -> None:
        """Give an order; its answer must be taken before the next."""
        orders = _open(self._process.stdin)
        orders.write(json.dumps({"do": do, **values}) + "\n")
        orders.flush()

    def close(self) -> None:
        """End it."""
        _open(self._process.stdin).close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            _end_group(self._process)
        _open(self._process.stdout).close()

    def answer(self) -> dict[str, Any]:
        """Wait for what it says; raise DriverError when it has ended."""
        line = _open(self._process.stdout).readline()
        if not line:
            said = self._log.read_text()[-2000:]
            raise DriverError(f"the driver of {self.side} ended:\n{said}")
        return json.loads(line)


def _open(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError("not piped")
    return stream


def _end_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, 9)
    process.wait()
