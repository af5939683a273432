"""Crash points 5-7: Redis restarts, forgets everything, or stays away."""

from __future__ import annotations

import time

import psutil
import pytest

from tests.chaos import bounds
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)

RUNS = 20
#: Messages a second of the publisher, on the safe side of what is measured (durability.md 4.1).
RATE = 4_600
AWAY_SECONDS = 15.0


def waiting_runs(stack) -> list[str]:
    """Submit runs whose first messages stay in Redis, because the workers stand still."""
    found = [stack.submit("lab.tally") for _ in range(RUNS)]
    assert stack.redis().llen("lab") >= RUNS - 4, "what was being popped may be in their ears"
    return found


def sent_again(stack, run_ids: list[str], since: float, within: float = 15) -> float:
    """Wait until the first step of every run has been sent once more; return when the last was."""

    def last() -> float:
        found = stack.rows(
            "SELECT extract(epoch FROM min(dispatched_at))::float8,"
            " extract(epoch FROM max(dispatched_at))::float8"
            " FROM engine_steprun WHERE run_id = ANY(%s::uuid[]) AND key = 'tally'"
            " AND state <> 'ready'",
            run_ids,
        )
        first, latest = found[0]
        return latest if first and first > since else 0.0

    return eventually(last, within=within, what="everything is sent again")


def check(stack, run_ids: list[str]) -> None:
    stack.sound(*run_ids)
    for run_id in run_ids:
        assert {attempt for _, _, attempt, _ in stack.events(run_id, "step.started")} == {1}


def test_crash_point_05__redis_restarts_with_its_append_only_file(stack):
    with stack.stopped(*stack.workers()):
        found = waiting_runs(stack)
        died = stack.lose_redis(delete=False)
        back = stack.redis_is_back()
        again = sent_again(stack, found, died)
    bounds.within("5", again - back, table="reconnect + ≤ 2 s", in_all=2.0)
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
        found = waiting_runs(stack)
        if how == "flushall":
            died = back = time.time()
            stack.redis().flushall()
        else:
            died = stack.lose_redis(delete=True)
            back = stack.redis_is_back()
            assert stack.redis().llen("lab") < RUNS
        again = sent_again(stack, found, died)
    bounds.within(
        f"6, {how}", again - back, table="≤ 2 s + n/rate", in_all=2.0, sending=RUNS / RATE
    )
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
