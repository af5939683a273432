"""Crash points 8-14: a worker dies, or stands still, with work in its hands."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from engine import batches, outcomes
from tests.chaos import bounds
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)

#: A body that leaves no time to go on here with what follows: that is published.
SLICE = batches.SLICE_SECONDS + 0.05


def recovered_by_lease(stack, point: str, run_id: str, key: str, died: float) -> None:
    """Check the two moments: the dead worker's step is taken from it, and runs again."""
    again = stack.started(run_id, key, attempt=2)
    taken = next(at for at, *_ in stack.events(run_id, "step.retried"))
    bounds.within(
        f"{point}, taken from the dead", taken - died, table="≤ 30 s + tick 1 s",
        lease=bounds.LEASE, tick=1.0,
    )  # fmt: skip
    bounds.within(
        f"{point}, runs again", again - died, table="≤ 30 s + tick 1 s", **bounds.BY_LEASE
    )


def test_crash_point_08__worker_killed_with_messages_it_has_not_begun(stack):
    with stack.stopped(stack.find("worker2")):
        victim = stack.find("worker")
        # Nothing is fetched before a child is free: these look free and begin nothing.
        children = stack.pool("worker")
        for child in children:
            child.suspend()
        unstarted = [stack.submit("lab.tally", seconds=1) for _ in range(2)]
        eventually(lambda: stack.redis().llen("lab") == 0, within=5, what="both are fetched")
        sent = max(stack.step(run_id, "tally")["dispatched_at"] for run_id in unstarted)
        for process in (victim, *children):
            process.kill()
        died = max(stack.rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0])
        eventually(lambda: not victim.is_running() or victim.status() == "zombie", within=5)

        def again() -> float:
            moments = [stack.step(run_id, "tally") for run_id in unstarted]
            done = all(m["dispatched_at"] > sent or m["attempt"] for m in moments)
            return max(m["dispatched_at"] for m in moments) if done else 0.0

        last = eventually(again, within=20, what="what it had fetched is sent again")
    bounds.within("8, sent again", last - died, table="3-5 s idle queue", in_all=5.0)
    stack.sound(*unstarted)
    assert all(stack.step(run_id, "tally")["crashes"] == 0 for run_id in unstarted)


@pytest.mark.parametrize("point", ["after_claim", "in_body"])
def test_crash_point_09__worker_killed_after_claim(stack, point):
    stack.points.arm(point, role="worker", action="kill-group", key="tally")
    run_id = stack.submit("lab.tally")
    died = stack.points.fired(point).at
    recovered_by_lease(stack, f"9, {point}", run_id, "tally", died)
    stack.sound(run_id)
    assert stack.step(run_id, "tally")["crashes"] == 1


@pytest.mark.parametrize("how", ["kill", "segv"])
def test_crash_point_10__worker_child_dies_and_its_parent_says_so(stack, how):
    stack.points.arm("in_body", role="worker", action=how, key="tally")
    run_id = stack.submit("lab.tally")
    died = stack.points.fired("in_body").at
    again = stack.started(run_id, "tally", attempt=2)
    taken = next(at for at, *_ in stack.events(run_id, "step.retried"))
    assert taken - stack.started(run_id, "tally") < bounds.LEASE, "only the lease told"
    bounds.within(f"10, {how}", again - died, table="≤ 5 s", in_all=5.0)
    stack.sound(run_id)


@pytest.fixture
def outside():
    """Another system: it counts what it is asked to do, by the key it is given."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_crash_point_11__worker_killed_after_an_effect_outside_before_its_commit(stack, outside):
    url, seen = outside
    stack.points.arm("after_effect_before_commit", role="worker", action="kill-group")
    run_id = stack.submit("lab.call_out", url=url)
    died = stack.points.fired("after_effect_before_commit").at
    assert stack.ledger(run_id) == 0
    recovered_by_lease(stack, "11", run_id, "call_out", died)
    stack.sound(run_id, effects=1)
    assert seen == [f"{run_id}:call_out:-1"] * 2, "twice, under one key"


def test_crash_point_11__killed_before_the_record_of_an_idempotent_effect(stack, outside):
    url, seen = outside
    stack.points.arm("after_effect_before_record", role="worker", action="kill-group")
    run_id = stack.submit("lab.pay", url=url, idempotent=True)
    died = stack.points.fired("after_effect_before_record").at
    recovered_by_lease(stack, "11, idempotent", run_id, "pay", died)
    stack.sound(run_id, effects=1)
    assert seen == [f"{run_id}:pay:-1:pay"] * 2, "the other system drops the second by its key"


@pytest.mark.parametrize("answer", ["confirm", "retry"])
def test_crash_point_11__killed_before_the_record_of_an_effect_nobody_may_repeat(
    stack, outside, answer
):
    url, seen = outside
    stack.points.arm("after_effect_before_record", role="worker", action="kill-group")
    run_id = stack.submit("lab.pay", url=url)
    died = stack.points.fired("after_effect_before_record").at
    unknown = "SELECT id FROM engine_effect WHERE run_id = %s AND state = 'unknown'"
    ((effect,),) = eventually(lambda: stack.rows(unknown, run_id), within=15, what="it is asked")
    bounds.within(
        f"11, {answer}, an operator is asked", time.time() - died, table="≤ 30 s + tick 1 s",
        **bounds.BY_LEASE, asking=0.5,
    )  # fmt: skip
    key = f"{run_id}:pay:-1:pay"
    assert (seen, stack.ledger(run_id)) == ([key], 0), "not made again before somebody answers"
    stack.manage("effects", answer, str(effect), *(["--apply"] if answer == "retry" else []))
    stack.sound(run_id, effects=1)
    assert seen == [key] * (1 if answer == "confirm" else 2)


@pytest.mark.parametrize("automation", ["lab.tally", "lab.think"])
def test_crash_point_12__worker_killed_before_its_commit_is_done(stack, automation):
    key = automation.removeprefix("lab.")
    stack.points.arm("before_complete_commit", role="worker", action="kill-group", key=key)
    run_id = stack.submit(automation)
    died = stack.points.fired("before_complete_commit").at
    assert stack.step(run_id, key)["state"] == "running"
    assert stack.ledger(run_id) == 0
    recovered_by_lease(stack, f"12, {key}, not committed", run_id, key, died)
    stack.sound(run_id, effects=2 if key == "tally" else 1)


@pytest.mark.parametrize("automation", ["lab.writer", "lab.only_think"])
def test_crash_point_12__worker_killed_after_its_commit_before_the_answer(stack, automation):
    key = "writer" if automation == "lab.writer" else "only_think"
    stack.points.arm("after_complete_commit", role="worker", action="kill-group", key=key)
    run_id = stack.submit(automation)
    died = stack.points.fired("after_complete_commit").at
    now = stack.rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0]
    assert stack.state(run_id) == "succeeded"
    bounds.within(f"12, {key}, committed", now - died, table="0 s", asking=0.2)
    stack.sound(run_id, effects=1 if key == "writer" else 0)
    assert stack.step(run_id, key)["attempt"] == 1


@pytest.mark.parametrize("automation", ["lab.tally", "lab.think"])
def test_crash_point_12__answer_of_a_commit_is_lost_and_the_worker_lives(stack, automation):
    key = automation.removeprefix("lab.")
    stack.points.arm("after_complete_commit", role="worker", action="lose-answer", key=key)
    run_id = stack.submit(automation)
    lost = stack.points.fired("after_complete_commit").at
    # The successor was claimed by that very commit: its holder asks, and goes on with it.
    bounds.within(
        f"12, {key}, answer lost, run ended", stack.ended(run_id) - lost, table="0 s",
        first_pause=outcomes.FIRST_WAIT_SECONDS, asking_and_writing=0.5,
    )  # fmt: skip
    stack.sound(run_id, effects=2 if key == "tally" else 1)
    for one in (key, "tally_after"):
        found = stack.step(run_id, one)
        assert (found["attempt"], found["crashes"]) == (1, 0)
    assert stack.step(run_id, key)["claim"] == stack.step(run_id, "tally_after")["claim"]


@pytest.mark.parametrize("automation", ["lab.tally", "lab.think"])
def test_crash_point_12__answer_is_lost_and_the_slice_is_over(stack, automation):
    """Then the successor was readied for others, and nobody has sent it."""
    key = automation.removeprefix("lab.")
    stack.points.arm("after_complete_commit", role="worker", action="lose-answer", key=key)
    run_id = stack.submit(automation, seconds=SLICE)
    lost = stack.points.fired("after_complete_commit").at
    began = stack.started(run_id, "tally_after")
    bounds.within(
        f"12, {key}, answer lost, slice over", began - lost, table="as 13: 3-5 s",
        **bounds.LOST_MESSAGE,
    )  # fmt: skip
    stack.sound(run_id, effects=2 if key == "tally" else 1)
    assert stack.step(run_id, key)["attempt"] == 1


def test_crash_point_13__worker_killed_after_its_commit_before_publishing_successors(stack):
    stack.points.arm("before_publish", role="worker", action="kill-group", any=True)
    run_id = stack.submit("lab.tally", seconds=SLICE)
    died = stack.points.fired("before_publish").at
    assert stack.step(run_id, "tally_after")["state"] == "queued"
    bounds.within(
        "13",
        stack.started(run_id, "tally_after") - died,
        table="3-5 s",
        **bounds.LOST_MESSAGE,
    )
    stack.sound(run_id)
    assert {attempt for _, _, attempt, _ in stack.events(run_id, "step.started")} == {1}


@pytest.mark.parametrize("automation", ["lab.tally", "lab.think"])
def test_crash_point_14__worker_stands_still_past_its_lease_and_comes_back(stack, automation):
    key = automation.removeprefix("lab.")
    stack.points.arm("in_body", role="worker", action="stop", key=key)
    run_id = stack.submit(automation)
    mark = stack.points.fired("in_body")
    zombie = psutil.Process(mark.pid)
    try:
        recovered_by_lease(stack, f"14, {key}", run_id, key, mark.at)
        stack.reaches(run_id, "succeeded")
        assert stack.logged("late_write_refused", run_id) == []
    finally:
        back = stack.rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0]
        zombie.resume()
    eventually(lambda: stack.logged("late_write_refused", run_id), within=5, what="refused")
    refused = stack.rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0]
    bounds.within(f"14, {key}, refused", refused - back, table="at next statement", in_all=1.0)
    stack.sound(run_id, effects=2 if key == "tally" else 1)
    assert stack.step(run_id, key)["attempt"] == 2
