"""The platform under the crash points: two workers, two managers, failpoints, and cruel hands."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from typing import TYPE_CHECKING

import httpx
import psutil
import redis

from orchestration.manager.loop import LOCK_NAMESPACE
from tests.acceptance.stack import ROOT, TLS, Stack
from tests.chaos.failpoints import Failpoints
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The instance of the manager that `up` does not start.
SECOND = 7
CLAIM_IDLE_SECONDS = 2.0
WORKERS = ("worker", "worker2", "orchestrator")


class Installation(Stack):
    """A running platform that a test may kill in pieces; `settle` makes it whole again."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.points = Failpoints(folder / "failpoints")
        super().__init__(
            folder,
            options=("--workers", "2", "--concurrency", "2"),
            CATALOG_PACKAGES="tests.catalog,tests.chaos.faults",
            CANCEL_GRACE_SECONDS="1",
            FAILPOINTS=str(self.points.folder),
            FAILPOINTS_CLAIM_IDLE_SECONDS=str(CLAIM_IDLE_SECONDS),
            **environment,
        )
        self.second: subprocess.Popen[bytes] | None = None
        self._known: set[int] = set()

    # --- life -------------------------------------------------------------------------------
    def start(self) -> None:
        """Start everything, the second manager too."""
        super().start()
        self.settle()

    def stop(self, how: signal.Signals = signal.SIGTERM, within: float = 60) -> int:
        """End everything."""
        if self.second is not None and self.second.poll() is None:
            self.second.terminate()
            self.second.wait(timeout=15)
        return super().stop(how, within)

    def settle(self) -> None:
        """Wait until every process is there and at work; start the second manager if it is not."""
        self.points.clear()
        self.execute("UPDATE engine_lane SET max_concurrency = NULL, paused = false")
        if self.second is None or self.second.poll() is not None:
            self._start_second()
        eventually(self.answers, within=30, what="web answers")
        for name in WORKERS:
            eventually(lambda: self._serves(name), within=30, what=f"{name} is there")  # noqa: B023
        eventually(self._both_managers, within=30, what="two managers at work")

    def _start_second(self) -> None:
        with (self.folder / "second.log").open("ab") as output:
            self.second = subprocess.Popen(
                [sys.executable, "manage.py", "manager", "--port", str(self.manager_ports[1]),
                 "--instance", str(SECOND)],
                cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def _serves(self, name: str) -> bool:
        """Tell whether a worker consumes: it has said so since it started."""
        with contextlib.suppress(AssertionError, psutil.Error, redis.RedisError):
            pid = self.find(name).pid
            for said in self.redis().hvals("automation:workers"):
                found = json.loads(said)
                if not found["leaving"]:
                    self._known.add(found["pid"])
            return pid in self._known
        return False

    def _both_managers(self) -> bool:
        states = [self.loops(port) for port in self.manager_ports]
        return all(found and set(found.values()) <= {"working", "standby"} for found in states)

    # --- looking ----------------------------------------------------------------------------
    @property
    def manager_ports(self) -> tuple[int, int]:
        """Return where the two managers say how they are."""
        return 8080 + self.shift, 8080 + self.shift + SECOND

    def loops(self, port: int) -> dict[str, str]:
        """Return the state of each loop of a manager; nothing when it does not answer."""
        try:
            found = httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, verify=TLS).json()[
                "loops"
            ]
        except httpx.HTTPError:
            return {}
        return {name: loop["state"] for name, loop in found.items()}

    def loops_away(self) -> list[str]:
        """Return which loops of the managers wait for a dependency."""
        found = []
        for port in self.manager_ports:
            health = httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, verify=TLS).json()
            found += [name for name, it in health["loops"].items() if it["state"] == "waiting"]
        return found

    def lock_holder(self, loop: str) -> int | None:
        """Return the session of PostgreSQL that holds a loop's advisory lock."""
        found = self.rows(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = %s::bigint AND objid = %s::bigint",
            LOCK_NAMESPACE,
            zlib.crc32(loop.encode()),
        )
        return found[0][0] if found else None

    def step(self, run_id: str, key: str) -> dict[str, object]:
        """Return the columns of a step that tell its life."""
        columns = "id, state, attempt, failures, crashes, claim, worker"
        found = self.rows(
            f"SELECT {columns}, extract(epoch FROM started_at)::float8,"
            f" extract(epoch FROM dispatched_at)::float8 FROM engine_steprun"
            " WHERE run_id = %s AND key = %s AND map_index = -1 AND kind = 'step'",
            run_id,
            key,
        )
        return dict(
            zip([*columns.split(", "), "started_at", "dispatched_at"], found[0], strict=True)
        )

    def events(self, run_id: str, kind: str) -> list[tuple[float, int, int, dict]]:
        """Return (seconds since the epoch, StepRun, attempt, data) of a run's events of a kind."""
        return self.rows(
            "SELECT extract(epoch FROM at)::float8, step_run_id, attempt, data"
            " FROM engine_runevent WHERE run_id = %s AND kind = %s ORDER BY id",
            run_id,
            kind,
        )

    def started(self, run_id: str, key: str, *, attempt: int = 1, within: float = 30) -> float:
        """Wait until an attempt of a step has been claimed; return when."""
        step_run_id = self.step(run_id, key)["id"]

        def found() -> list[float]:
            return [
                at
                for at, step, number, _ in self.events(run_id, "step.started")
                if step == step_run_id and number == attempt
            ]

        return eventually(found, within=within, what=f"{key} of {run_id} started: {attempt}")[-1]

    def ended(self, run_id: str, *states: str, within: float = 30) -> float:
        """Wait until a run has succeeded (or is in one of `states`); return when it ended."""
        self.reaches(run_id, *(states or ("succeeded",)), within=within)
        statement = "SELECT extract(epoch FROM finished_at)::float8 FROM engine_run WHERE id = %s"
        return self.rows(statement, run_id)[0][0]

    def logged(self, event: str, run_id: str) -> list[dict]:
        """Return what the log says of a run under a name."""
        lines = (self.var / "log" / "app.log").read_text().splitlines()
        return [found for line in lines if event in line and run_id in line
                if (found := json.loads(line))["event"] == event]  # fmt: skip

    def sound(self, *run_ids: str, effects: int = 2) -> None:
        """Check what must hold after every crash: the runs' end, their effects, the invariants."""
        for run_id in run_ids:
            self.reaches(run_id, "succeeded", within=30)
            assert self.ledger(run_id) == effects
        if (ROOT / "engine/management/commands/check_invariants.py").exists():
            self.manage("check_invariants")

    # --- hurting ----------------------------------------------------------------------------
    def keeper(self, server: str) -> psutil.Process:
        """Return the process that starts PostgreSQL or Redis again."""
        record = json.loads((self.var / "run" / f"{server}.json").read_text())
        return psutil.Process(record["keeper"]["pid"])

    @contextlib.contextmanager
    def stopped(self, *processes: psutil.Process) -> Iterator[None]:
        """Freeze processes for a while (SIGSTOP, SIGCONT)."""
        try:
            for process in processes:
                process.suspend()
            yield
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def managers(self) -> list[psutil.Process]:
        """Return both managers."""
        assert self.second is not None
        return [self.find("manager"), psutil.Process(self.second.pid)]

    def workers(self) -> list[psutil.Process]:
        """Return the parents of both department workers."""
        return [self.find("worker"), self.find("worker2")]

    def lose_redis(self, *, delete: bool) -> float:
        """Kill Redis, and delete its files if so wanted; return when it died."""
        with self.stopped(self.keeper("redis")):
            server = self.find("redis")
            at = time.time()
            server.kill()
            eventually(lambda: not _lives(server), within=5)
            if delete:
                for name in ("appendonly.aof", "appendonlydir"):
                    path = self.var / "redis" / name
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return at

    def redis_is_back(self, within: float = 20) -> float:
        """Wait until Redis answers; return when it did."""

        def answered() -> float:
            try:
                self.redis().ping()
            except redis.RedisError:
                return 0.0
            return time.time()

        return eventually(answered, within=within, what="Redis answers")

    def pause(self, department: str = "lab") -> None:
        """Pause a department as operators do."""
        assert self.call("POST", f"/departments/{department}/pause").status_code == 200

    def resume(self, department: str = "lab") -> None:
        """Let a department go on."""
        assert self.call("POST", f"/departments/{department}/resume").status_code == 200

    def limit(self, concurrency: int) -> None:
        """Give the laboratory's lane a limit: only the dispatcher sends there."""
        self.execute("UPDATE engine_lane SET max_concurrency = %s WHERE slug = 'lab'", concurrency)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def group_of(process: psutil.Process) -> int:
    """Return the process group, which for a worker is itself and its children."""
    return os.getpgid(process.pid)
