"""The dispatcher, turned by hand: what it sends, how much of it, and how often it looks."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from django.conf import settings
from django.db import connection

from engine import lanes, leases, runs
from engine.models import StepRun
from engine.publishing import ReadyStep
from orchestration import messages, publisher, streams
from orchestration.manager import dispatcher
from orchestration.manager.bell import Bell
from orchestration.manager.dispatcher import Dispatcher
from orchestration.manager.window import FIRST
from tests.eventually import eventually
from tests.integration.orchestration.conftest import in_thread, states


@pytest.fixture(autouse=True)
def _release_locks(transactional_db):
    """Session locks outlive a transaction: the test's connection must not keep them."""
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


def sent(queue: str) -> list[int]:
    """Return the steps that stand in a queue, the next one to be taken first."""
    found = reversed(streams.waiting(queue, limit=10_000))
    return [step for raw in found for step in messages.step_run_ids(raw)]


def first_step(run_id) -> StepRun:
    return StepRun.objects.get(run_id=run_id, key="numbers")


def behind_a_backlog(broker, number: int, **words) -> list[int]:
    """Submit runs while the queue is long; return their first steps."""
    broker.lpush("lab", *["x"] * publisher.BACKLOG_MESSAGES)
    publisher.publisher.publish([ReadyStep(0, "lab")])
    found = [
        runs.submit(automation="lab.squares", input={"count": 0}, trigger="command", **words)
        for _ in range(number)
    ]
    broker.delete("lab")
    return [first_step(one.run_id).pk for one in found]


def test_dispatcher__sends_what_the_fast_path_could_not(platform, stop, submitted):
    leases.hand_back(step_run_ids=[first_step(submitted).pk], reason="test")
    platform.flushall()
    Dispatcher(stop=stop).turn()
    assert sent("lab") == [first_step(submitted).pk]
    assert states(submitted)["numbers"] == "queued"


def test_dispatcher__while_redis_is_away_everything_stays_ready(
    platform, stop, submitted, redis_elsewhere
):
    good = settings.REDIS_URL
    leases.hand_back(step_run_ids=[first_step(submitted).pk], reason="test")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        redis_elsewhere(f"redis://127.0.0.1:{closed.getsockname()[1]}/0")
        loop = Dispatcher(stop=stop)
        loop.turn()
        assert loop.status()["state"] == "waiting"
        assert states(submitted)["numbers"] == "ready"
    redis_elsewhere(good)
    loop.turn()
    assert states(submitted)["numbers"] == "queued"


def test_dispatcher__one_lane_that_fails_does_not_stop_the_others(
    platform, stop, submitted, monkeypatch
):
    leases.hand_back(step_run_ids=[first_step(submitted).pk], reason="test")
    dispatch = lanes.dispatch

    def broken(*, lane, **arguments):
        if lane == "a_broken_one":
            raise RuntimeError("poisoned")
        return dispatch(lane=lane, **arguments)

    monkeypatch.setattr(lanes, "dispatch", broken)
    monkeypatch.setattr(lanes, "with_ready", lambda: {"a_broken_one": "broken", "lab": "lab"})
    Dispatcher(stop=stop).turn()
    assert states(submitted)["numbers"] == "queued"


def test_dispatcher__leaves_the_backlog_in_the_database_and_sends_what_is_taken(platform, stop):
    steps = behind_a_backlog(platform, 60)
    assert set(StepRun.objects.filter(pk__in=steps).values_list("state", flat=True)) == {"ready"}
    loop = Dispatcher(stop=stop)
    loop.turn()
    assert sent("lab") == steps[:FIRST]
    loop.turn()
    assert sent("lab") == steps[:FIRST], "nobody takes any: no more is put before the workers"
    urgent = behind_a_backlog(platform, 1, priority=50)
    loop.turn()
    assert sent("lab")[0] == urgent[0]
    for _ in range(20):
        platform.delete("lab")
        loop.turn()
    assert not StepRun.objects.filter(state="ready").exists()


def test_dispatcher__puts_what_is_urgent_before_a_queue_that_is_full(platform, stop):
    loop = Dispatcher(stop=stop)
    urgent = behind_a_backlog(platform, 20, priority=50)
    normal = behind_a_backlog(platform, 1)
    publisher.publisher.send([ReadyStep(step, "lab", alone=True) for step in range(1, 41)])
    loop.turn()
    assert sent("lab") == [*urgent[: dispatcher.URGENT_STEPS], *range(1, 41)]
    loop.turn()
    assert len(sent("lab")) == dispatcher.URGENT_STEPS + 40, "not before those that were first"
    platform.rpop("lab", dispatcher.URGENT_STEPS)
    loop.turn()
    assert sent("lab") == [*urgent[dispatcher.URGENT_STEPS :], *range(1, 41)]
    assert StepRun.objects.get(pk=normal[0]).state == "ready"


def test_dispatcher__says_that_a_line_stands_until_all_of_it_is_sent(platform, stop):
    def line() -> bool:
        return bool(platform.exists(streams.LINE + "lab"))

    loop = Dispatcher(stop=stop)
    behind_a_backlog(platform, 3)
    loop.turn()
    assert not line(), "there was room for all"
    behind_a_backlog(platform, 60)
    loop.turn()
    assert line()
    while StepRun.objects.filter(state="ready").exists():
        assert line(), "what is new would overtake them"
        platform.delete("lab")
        loop.turn()
    loop.turn()
    assert not line()


def test_depths__of_what_is_no_list_is_none_and_hides_no_other(platform, submitted):
    platform.set("finance", "no list")
    assert streams.depths(["finance", "lab"]) == {"finance": 0, "lab": 1}


def test_dispatcher__looks_often_while_it_sends_and_seldom_when_idle(platform, stop):
    steps = behind_a_backlog(platform, 40)
    loop = Dispatcher(stop=stop)
    assert loop.turn() == dispatcher.BUSY_SECONDS
    assert sent("lab") == steps[:FIRST]
    pauses = [loop.turn() for _ in range(6)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == dispatcher.IDLE_SECONDS


def test_dispatcher__is_woken_by_what_is_left_to_it(platform, stop, monkeypatch):
    monkeypatch.setattr(dispatcher, "IDLE_SECONDS", 20.0)
    loop = Dispatcher(stop=stop)
    loop.interval = 20.0
    thread = in_thread(loop)
    try:
        eventually(lambda: loop.state == "working" and listeners(platform), within=5)
        steps = behind_a_backlog(platform, 3)
        eventually(lambda: sent("lab") == steps, within=2)
    finally:
        stop.set()
        platform.publish(streams.WAKE, "stop")
        thread.join(25)
    assert not thread.is_alive()


def listeners(broker) -> int:
    return dict(broker.pubsub_numsub(streams.WAKE))[streams.WAKE.encode()]


def test_bell__is_rung_when_a_backlog_begins(broker):
    sender = publisher.Publisher()
    bell = Bell()
    stop = threading.Event()
    bell.wait(0.0, stop=stop)
    for number in range(publisher.BACKLOG_MESSAGES):
        sender.publish([ReadyStep(number, "lab")])
    assert not bell.wait(0.1, stop=stop), "nobody needs it yet"
    sender.publish([ReadyStep(100, "lab")])
    assert bell.wait(5.0, stop=stop)


def test_bell__without_redis_pauses(redis_elsewhere, broker):
    redis_elsewhere("redis://127.0.0.1:1/0")
    began = time.monotonic()
    assert not Bell().wait(0.2, stop=threading.Event())
    assert 0.15 < time.monotonic() - began < 1.0
