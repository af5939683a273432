"""kill -9 of any one process, and the loss of all of Redis, in the middle of 200 mapped steps."""

from __future__ import annotations

import time

import psutil
import pytest
import redis

from tests.eventually import eventually

STEPS = 200
SECONDS = 0.02
pytestmark = pytest.mark.timeout(180)


def begin(stack) -> str:
    eventually(stack.answers, within=30, what="web answers")
    run_id = stack.submit("lab.booking", count=STEPS, seconds=SECONDS)
    eventually(lambda: stack.count(run_id, "succeeded", "book") >= 20, within=60)
    assert stack.state(run_id) == "running"
    return run_id


def restarted(stack, name: str, before: int) -> bool:
    try:
        return stack.find(name).pid != before
    except (AssertionError, OSError, ValueError, psutil.Error, redis.RedisError):
        return False


def check_end(stack, run_id: str, began: float, what: str) -> None:
    stack.reaches(run_id, "succeeded", within=90)
    print(f"\n{what}: recovered and finished {time.monotonic() - began:.1f} s after the blow")
    assert stack.ledger(run_id) == STEPS
    assert stack.count(run_id, "succeeded", "book") == STEPS
    (output,) = stack.rows(
        "SELECT o.value FROM engine_stepoutput o JOIN engine_steprun s ON s.id = o.step_run_id"
        " WHERE s.run_id = %s AND s.key = 'total'",
        run_id,
    )[0]
    assert output == sum(range(STEPS))


@pytest.mark.parametrize(
    "name", ["worker", "orchestrator", "manager", "web", "flower", "redis", "postgres"]
)
def test_kill_minus_nine__the_run_succeeds_and_each_effect_stands_once(stack, name):
    run_id = begin(stack)
    victim = stack.find(name)
    began = time.monotonic()
    victim.kill()
    check_end(stack, run_id, began, name)
    eventually(lambda: restarted(stack, name, victim.pid), within=30, what=f"{name} is back")


def test_kill_minus_nine__of_a_worker_child(stack):
    run_id = begin(stack)
    children = stack.pool("worker")
    began = time.monotonic()
    children[0].kill()
    check_end(stack, run_id, began, "worker child")


def test_flushall__loses_nothing(stack):
    run_id = begin(stack)
    began = time.monotonic()
    stack.redis().flushall()
    check_end(stack, run_id, began, "FLUSHALL")


def test_flushall__before_the_map_is_planned(stack):
    for _ in range(3):
        run_id = stack.submit("lab.booking", count=20)
        stack.redis().flushall()
        stack.reaches(run_id, "succeeded", within=30)
        assert stack.ledger(run_id) == 20


def test_kill_minus_nine__of_up_itself_and_a_second_start_finishes(stack):
    run_id = begin(stack)
    began = time.monotonic()
    stack.kill("up")
    stack.process.wait(timeout=10)
    stack.start()
    check_end(stack, run_id, began, "up")


def test_ctrl_c__leaves_no_process_behind(stack):
    stack.submit("lab.booking", count=STEPS, seconds=SECONDS)
    code = stack.stop()
    assert code in {0, 130}
    eventually(lambda: not stack.leftovers(), within=15, what="no process left")
    stack.start()
