"""Crash points 21-23: a deploy, a step that is poison, a cancel."""

from __future__ import annotations

import json
import time

import pytest

from tests.chaos import bounds
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)

#: Beats a lease has: a running step hears of a cancel that often.
BEAT = bounds.LEASE / 3
GRACE = 1.0


def test_crash_point_21__sigterm_drains(stack):
    found = [stack.submit("lab.tally", seconds=1) for _ in range(12)]
    victim = stack.find("worker")
    eventually(lambda: busy(stack, victim.pid) == 2, within=5, what="it is busy")
    asked = time.time()
    victim.terminate()
    eventually(lambda: not victim.is_running() or victim.status() == "zombie", within=15)
    bounds.within(
        "21, gone", time.time() - asked, table="0 s; running steps finish", body=1.0, leaving=5.0
    )
    later = max(stack.started(run_id, "tally") for run_id in found)
    # What had not begun is taken by the other worker, two at a time, a second each.
    bounds.within("21, all begun", later - asked, table="0 s", queue=10 / 2 * 1.1, delivery=0.5)
    stack.sound(*found)
    for run_id in found:
        assert stack.step(run_id, "tally")["attempt"] == 1
        reasons = {data["reason"] for *_, data in stack.events(run_id, "step.released")}
        assert reasons <= {"stranded"}, "given back, not lost"


def busy(stack, pid: int) -> int:
    """Return how many processes of a worker run something, by its own word."""
    words = map(json.loads, stack.redis().hvals("automation:workers"))
    return next((word["busy"] for word in words if word["pid"] == pid), 0)


def test_crash_point_22__poison_is_dead_after_three_crashes(stack, tmp_path):
    run_id = stack.submit("lab.poison", folder=str(tmp_path))
    began = stack.started(run_id, "kill_worker")
    stack.reaches(run_id, "blocked", within=60)
    ((dead, *_),) = stack.events(run_id, "step.dead")
    bounds.within(
        "22", dead - began, table="3 x (9 + backoff)",
        three_leases=3 * bounds.LEASE, three_ticks=3 * bounds.REAPER,
        backoffs=bounds.BACKOFF + 2 * bounds.BACKOFF,
        sendings=2 * (bounds.TIMER + bounds.DISPATCHER),
    )  # fmt: skip
    assert (tmp_path / "kill_worker.log").read_text().count("x") == 3
    letters = stack.rows(
        "SELECT error_code, crashes FROM engine_deadletter WHERE run_id = %s", run_id
    )
    assert letters == [("worker_lost", 3)]
    stack.sound(stack.submit("lab.tally"))


def test_crash_point_22__poison_takes_no_neighbour_of_its_message_with_it(stack):
    items = 512  # sixteen messages of thirty-two
    run_id = stack.submit("lab.minefield", count=items, mine=300)
    stack.reaches(run_id, "blocked", within=60)
    eventually(
        lambda: stack.count(run_id, "succeeded", "tread") == items - 1, within=20, what="all others"
    )
    assert stack.ledger(run_id) == items - 1
    others = "run_id = %s AND key = 'tread' AND kind = 'step' AND map_index <> 300"
    crashed = stack.rows(f"SELECT map_index FROM engine_steprun WHERE {others} AND crashes > 0",
                         run_id)  # fmt: skip
    assert crashed == []
    dead = "SELECT state, crashes FROM engine_steprun WHERE run_id = %s AND map_index = 300"
    assert stack.rows(dead, run_id) == [("dead", 3)]
    stack.sound()


def executions(folder, word: str) -> int:
    path = folder / f"{word}.log"
    return len(path.read_text().splitlines()) if path.exists() else 0


def cancelled(stack, run_id: str) -> float:
    """Cancel a run and return how long that took."""
    asked = time.time()
    assert stack.call("POST", f"/runs/{run_id}/cancel").status_code == 200
    stack.reaches(run_id, "cancelled", within=20)
    statement = "SELECT extract(epoch FROM finished_at)::float8 FROM engine_run WHERE id = %s"
    return stack.rows(statement, run_id)[0][0] - asked


def test_crash_point_23__cancel_of_a_step_that_looks_up(stack, tmp_path):
    run_id = stack.submit("lab.patient", folder=str(tmp_path), seconds=60)
    eventually(lambda: executions(tmp_path, "patient"), within=10)
    bounds.within(
        "23, cooperative", cancelled(stack, run_id), table="≤ 10 s + grace",
        checkpoint=1.0, ending=0.5,
    )  # fmt: skip
    assert executions(tmp_path, "last") == 0
    stack.sound()


def test_crash_point_23__cancel_of_a_step_that_never_looks_up(stack, tmp_path):
    run_id = stack.submit("lab.stubborn", folder=str(tmp_path), seconds=60)
    eventually(lambda: executions(tmp_path, "stubborn"), within=10)
    bounds.within(
        "23, hard", cancelled(stack, run_id), table="≤ 10 s + grace",
        heartbeat=BEAT, grace=GRACE, looking=0.5,
    )  # fmt: skip
    assert executions(tmp_path, "stubborn_finished") == 0
    assert executions(tmp_path, "last") == 0
    stack.sound(stack.submit("lab.tally"))
