"""SIGTERM ends a worker within its grace, every time: fifty of them, whatever they are doing.

Slow, and outside of `make test`: `pytest -m slow tests/chaos/test_shutdowns.py`.
"""

# ruff: noqa: F811 - fixtures are imported and then asked for by name

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import psutil
import pytest

from engine import runs
from engine.models import Lease, RunEvent, StepRun
from orchestration import streams
from orchestration.alarm import EXIT_GRACE_OVER
from tests.eventually import eventually
from tests.integration.orchestration.conftest import (  # noqa: F401 - fixtures
    catalog,
    environment,
    platform,
    started,
)
from tests.integration.orchestration.processes import folder, is_alive, manager, state, worker

ROUNDS, AT_ONCE = 5, 10
GRACE_SECONDS = 4.0
#: A step longer than the grace: its worker is ended hard.
LONG_SECONDS = 9.0
#: From exec to the handlers of signals: before them SIGTERM simply ends the process.
START_SECONDS = 4.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@dataclass
class Hands:
    """A worker, when it was asked to end, and when it was gone."""

    process: object
    asked_at: float = 0.0
    took: float = 0.0
    children: list[psutil.Process] = field(default_factory=list)

    def ask(self) -> None:
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        self.asked_at = time.monotonic()
        self.process.terminate()

    def is_gone(self) -> bool:
        if self.process.poll() is None:
            return False
        self.took = self.took or time.monotonic() - self.asked_at
        return True


def submitted(tmp_path) -> list:
    """Work of all kinds: short steps in bursts, cooperative ones, and one beyond any grace."""
    path = folder(tmp_path)
    wanted = [
        *[("lab.booking", {"count": 60, "seconds": 0.05})] * 3,
        *[("lab.patient", {"folder": path, "seconds": 1.0})] * 6,
        ("lab.stubborn", {"folder": path, "seconds": LONG_SECONDS}),
    ]
    return [
        runs.submit(automation=name, input=values, trigger="command").run_id
        for name, values in wanted
    ]


def test_worker__ends_within_its_grace_fifty_times(started, platform, ledger, tmp_path):
    dice = random.Random(20261124)
    manager(started)
    everything: list = []
    ended: list[Hands] = []
    for number in range(ROUNDS):
        # Every second round has work: with it workers are busy and hold messages, else idle.
        everything += submitted(tmp_path) if number % 2 == 0 else []
        team = [
            Hands(worker(started, name=f"w{number}-{one}", WORKER_GRACE_SECONDS=f"{GRACE_SECONDS}"))
            for one in range(AT_ONCE)
        ]
        early = team[:3]
        began = time.monotonic()
        moments = {id(hands): began + dice.uniform(0.1, START_SECONDS) for hands in early}

        def asked(team=team, early=early, moments=moments) -> bool:
            there = platform.hlen(streams.WORKERS) >= AT_ONCE - len(early)
            for hands in team:
                due = time.monotonic() >= moments[id(hands)] if id(hands) in moments else there
                if hands.asked_at:
                    hands.is_gone()
                elif due:
                    hands.ask()
            return all(hands.asked_at for hands in team)

        eventually(asked, within=60, what="workers are there and asked to end")
        eventually(
            lambda team=team: all([hands.is_gone() for hands in team]),  # noqa: C419 - ask each
            within=GRACE_SECONDS + 10,
            what=[hands.process.log for hands in team if not hands.took],
        )
        platform.delete(streams.WORKERS)
        ended += team
    slowest = max(hands.took for hands in ended)
    print(f"\n{len(ended)} shutdowns, grace {GRACE_SECONDS} s, slowest {slowest:.1f} s")
    codes = [hands.process.returncode for hands in ended]
    print("exit codes:", {code: codes.count(code) for code in sorted(set(codes))})
    assert len(ended) == ROUNDS * AT_ONCE
    late = [(hands.process.log, hands.took) for hands in ended if hands.took > GRACE_SECONDS + 1]
    assert not late
    # -15: before the handlers were there; 0: warm; the last: the grace was over.
    assert set(codes) <= {-15, 0, EXIT_GRACE_OVER}
    assert not [child for hands in ended for child in hands.children if is_alive(child)]
    worker(started, name="last")
    for run_id in everything:
        eventually(lambda run_id=run_id: state(run_id) == "succeeded", within=60)
    assert len(ledger()) == 60 * 3 * 3
    assert not Lease.objects.exists()
    # Being stopped is no crash of the step, however often it happens.
    assert not StepRun.objects.filter(crashes__gt=0).exists()
    stopped = RunEvent.objects.filter(data__error_code="worker_stopped").count()
    print("steps cut off at the end of a grace and tried again:", stopped)
