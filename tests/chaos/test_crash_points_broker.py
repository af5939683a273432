"""Crash points 5-7: Redis restarts, forgets everything, or stays away."""

from __future__ import annotations

import time

import psutil
import pytest

from orchestration.publisher import BACKLOG_MESSAGES
from tests.chaos import bounds
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)

RUNS = 20
#: Messages a second of the publisher, on the safe side of what is measured (durability.md 4.1).
RATE = 4_600
AWAY_SECONDS = 15.0


def waiting_runs(stack) -> tuple[list[str], list[str]]:
    """Submit runs while the workers stand still; return them, and those whose message was sent.

    The others are ready, in line in the database (the queue is behind with its work).
    """
    found = [stack.submit("lab.tally") for _ in range(RUNS)]
    sent = [run_id for run_id in found if stack.step(run_id, "tally")["state"] == "queued"]
    assert len(sent) > BACKLOG_MESSAGES / 2
    assert stack.redis().llen("lab") >= len(sent) - 4, "what was popped may be in their ears"
    return found, sent


def missed(stack, run_ids: list[str]) -> float:
    """Wait until each of these messages has been missed by the manager; return when the last was.

    From then on its step is ready, and sent when it is its turn.
    """

    def last() -> float:
        found = [stack.events(run_id, "step.released") for run_id in run_ids]
        assert {data["reason"] for run in found for *_, data in run} <= {"broker_lost"}
        return max(run[0][0] for run in found) if all(found) else 0.0

    return eventually(last, within=15, what="everything is missed")


def begun(stack, run_ids: list[str]) -> float:
    """Wait until every run has begun; return when the last did."""
    return max(stack.started(run_id, "tally") for run_id in run_ids)


def check(stack, run_ids: list[str]) -> None:
    stack.sound(*run_ids)
    for run_id in run_ids:
        assert {attempt for _, _, attempt, _ in stack.events(run_id, "step.started")} == {1}


def test_crash_point_05__redis_restarts_with_its_append_only_file(stack):
    with stack.stopped(*stack.workers()):
        found, sent = waiting_runs(stack)
        stack.lose_redis(delete=False)
        back = stack.redis_is_back()
        again = missed(stack, sent)
    on = time.time()
    bounds.within("5, missed", again - back, table="reconnect + ≤ 2 s", in_all=2.0)
    bounds.within("5, all begun", begun(stack, found) - on, table="≤ 2 s", in_all=2.0)
    check(stack, found)


@pytest.fixture(autouse=True)
def web_sends(stack):
    """Web's publisher has got over the last test: after an error it is silent for two seconds."""

    def sent() -> bool:
        run_id = stack.submit("lab.only_think")
        try:
            return bool(stack.reaches(run_id, "succeeded", within=1))
        except AssertionError:
            return False

    eventually(sent, within=10, what="web sends its messages itself")


@pytest.mark.parametrize("how", ["flushall", "files deleted"])
def test_crash_point_06__redis_loses_everything(stack, how):
    with stack.stopped(*stack.workers()):
        found, sent = waiting_runs(stack)
        if how == "flushall":
            back = time.time()
            stack.redis().flushall()
        else:
            stack.lose_redis(delete=True)
            back = stack.redis_is_back()
        again = missed(stack, sent)
    on = time.time()
    bounds.within(f"6, {how}, missed", again - back, table="≤ 2 s", in_all=2.0)
    bounds.within(
        f"6, {how}, all begun", begun(stack, found) - on, table="≤ 2 s + n/rate",
        in_all=2.0, sending=RUNS / RATE,
    )  # fmt: skip
    check(stack, found)


def test_crash_point_07__redis_is_down_for_long(stack):
    running = stack.submit("lab.think", seconds=3)
    stack.started(running, "think")
    keeper = stack.keeper("redis")
    with stack.stopped(keeper):
        server = stack.find("redis")
        died = time.time()
        server.kill()
        found = [stack.submit("lab.tally") for _ in range(5)]  # 201 each, while Redis is away
        eventually(
            lambda: stack.step(running, "think")["state"] == "succeeded",
            within=10,
            what="the running step finishes",
        )
        eventually(lambda: time.time() - died > AWAY_SECONDS, within=AWAY_SECONDS + 5)
        assert not psutil.pid_exists(server.pid) or server.status() == psutil.STATUS_ZOMBIE
    back = stack.redis_is_back()
    began = max(stack.started(run_id, "tally") for run_id in found)
    bounds.within("7", began - back, table="until up + ≤ 2 s", in_all=2.0)
    check(stack, found)
    stack.sound(running, effects=1)
