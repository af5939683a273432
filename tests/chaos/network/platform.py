"""Processes behind proxies, the work they get meanwhile, and how soon each of them goes on."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import psutil
from django.db import connection, connections

from config.celery import app
from engine import runs
from engine.models import Run, StepRun
from tests.eventually import eventually
from tests.integration.orchestration import processes as shared

if TYPE_CHECKING:
    from datetime import datetime

#: What every recovery is measured by, in seconds.
BOUND = 25.0
#: Beyond the bound the tests go on looking, to say by how much it was missed.
LOOKED_FOR = 60.0
#: A claim whose answer was lost is nobody's until its lease (30 s) has run out.
UNTIL_QUIET = 60.0
STEPS_A_RUN = 4
SECONDS_A_STEP = 0.02
FEED_EVERY = 0.2
WORKER = ("-m", "celery", "-A", "config", "worker", "-Q", "lab,orchestrator,dead_letter",
          "-c", "2", "--without-gossip", "--without-mingle", "-Ofair")  # fmt: skip


class Platform:
    """One manager and one worker with two children; `addresses` are what they connect to."""

    def __init__(self, started, **addresses: str) -> None:
        self.started, self.addresses = started, addresses
        self.manager = shared.manager(started, **addresses)
        self.worker = started(*WORKER, "-n", "w@%h", **addresses)
        self.run_ids: list[object] = []
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        eventually(lambda: shared.is_working(self.manager), within=30, what=self.manager.log)
        self.children: set[int] = eventually(self._children, within=30)

    # --- work -------------------------------------------------------------------------------
    def feed(self) -> None:
        """Begin to submit small runs of writing steps, past the proxies; wait until all work."""
        began = now()
        self._feeder.start()
        self.wait_for_children(since=began, within=30)

    def stop_feeding(self) -> None:
        """Submit nothing more."""
        self._stop.set()
        if self._feeder.is_alive():
            self._feeder.join(10)

    def _feed(self) -> None:
        values = {"count": STEPS_A_RUN, "seconds": SECONDS_A_STEP}
        try:
            while not self._stop.wait(FEED_EVERY):
                submitted = runs.submit(automation="lab.booking", input=values, trigger="command")
                self.run_ids.append(submitted.run_id)
        finally:
            connections.close_all()

    # --- looking ----------------------------------------------------------------------------
    def _children(self) -> set[int]:
        if self.worker.poll() is not None:
            raise AssertionError(self.worker.log.read_text()[-3000:])
        found = {child.pid for child in psutil.Process(self.worker.pid).children()}
        return found if len(found) == 2 else set()

    def wait_for_children(self, *, since: datetime, within: float = LOOKED_FOR) -> float:
        """Return after how long both children had ended a step of a run submitted since."""

        def first_ends() -> list[float]:
            ends = []
            for pid in self.children:
                done = StepRun.objects.filter(
                    worker__endswith=f"/{pid}", state="succeeded", run__created_at__gt=since
                )
                first = done.order_by("finished_at").values_list("finished_at", flat=True).first()
                if first is not None:
                    ends.append((first - since).total_seconds())
            return ends if len(ends) == len(self.children) else []

        return max(eventually(first_ends, within=within, what=f"work; see {self.worker.log}"))

    def wait_for_manager(self, *, within: float = LOOKED_FOR) -> float:
        """Return after how long every loop has done a whole turn that began after this call."""
        began = time.monotonic()

        def turned() -> bool:
            code, text = shared.page(self.manager)
            loops = json.loads(text)["loops"].values() if code else []
            # A turn that was nearly done when the fault began tells nothing.
            recent = time.monotonic() - began - 1.0
            return bool(loops) and all(
                loop["state"] == "working" and loop["heartbeat_age_seconds"] < recent
                for loop in loops
            )

        eventually(turned, within=within, what=f"loops; see {self.manager.log}")
        return time.monotonic() - began

    def wait_for_control(self, *, within: float = LOOKED_FOR) -> float:
        """Return after how long the worker answers a question on its control queue."""
        began = time.monotonic()
        eventually(lambda: app.control.ping(timeout=0.5), within=within, what="control")
        return time.monotonic() - began

    # --- judging ----------------------------------------------------------------------------
    def check_recovery(self, what: str, *, since: datetime) -> None:
        """Print every recovery time beside its bound, and hold it to that.

        One after the other: a time is at least that of the one before.
        """
        offset = (now() - since).total_seconds()
        began = time.monotonic()
        found = {"manager": self.wait_for_manager() + offset}
        waited = time.monotonic() - began
        found["control"] = self.wait_for_control() + waited + offset
        found["worker"] = self.wait_for_children(since=since)
        for who, seconds in found.items():
            print(f"\n{what}: {who} went on after {seconds:.1f} s (bound {BOUND:g} s)", end="")
        print()
        assert max(found.values()) <= BOUND, found

    def check_end(self) -> None:
        """Let everything end, by the same processes, each effect once."""
        self.stop_feeding()
        assert len(self.run_ids) > 5, "there was work"
        eventually(
            lambda: not Run.objects.exclude(state="succeeded").exists(),
            within=UNTIL_QUIET,
            what=f"all succeeded; see {self.worker.log}",
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM lab_ledger")
            assert cursor.fetchone() == (len(self.run_ids) * STEPS_A_RUN,)
        assert not StepRun.objects.filter(failures__gt=0).exists(), "a network is no step's failure"
        assert self.manager.poll() is None
        assert self.worker.poll() is None
        assert self._children() == self.children, "no process was restarted"


def now() -> datetime:
    """Return the database's time, by which steps are dated."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
