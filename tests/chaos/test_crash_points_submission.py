"""Crash points 1-4: between a client's request and its message in the broker."""

from __future__ import annotations

import time
import uuid

import httpx
import pytest

from orchestration.publisher import SHORT_BELIEF_SECONDS
from tests.chaos import bounds
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)


def request(key: str) -> dict:
    return {"automation": "lab.tally", "input": {}, "dedupe_key": key}


def post_and_lose_web(stack, point: str, **where) -> tuple[str, float]:
    """Ask for a run of a web process that dies of it; return the client's key and the moment."""
    key = f"client-{uuid.uuid4()}"
    stack.points.arm(point, role="web", **where)
    with pytest.raises(httpx.TransportError):
        stack.call("POST", "/runs", **request(key))
    return key, stack.points.fired(point).at


def runs_of(stack, key: str) -> list[str]:
    statement = "SELECT id FROM engine_run WHERE dedupe_key = %s"
    return [str(found) for (found,) in stack.rows(statement, key)]


def retry(stack, key: str) -> httpx.Response:
    eventually(stack.answers, within=30, what="web is back")
    return stack.call("POST", "/runs", **request(key))


def test_crash_point_01__web_killed_before_its_commit(stack):
    key, died = post_and_lose_web(stack, "before_submit_commit")
    assert runs_of(stack, key) == [], "nothing may exist of a request that was not answered"
    answer = retry(stack, key)
    assert answer.status_code == 201
    print(f"\npoint 1: asked again after {time.time() - died:.1f} s (table: client)")
    assert stack.call("POST", "/runs", **request(key)).status_code == 200
    assert runs_of(stack, key) == [answer.json()["id"]]
    stack.sound(answer.json()["id"])


def test_crash_point_02__web_killed_after_its_commit_before_publishing(stack):
    key, died = post_and_lose_web(stack, "before_publish", any=True)
    (run_id,) = runs_of(stack, key)
    began = stack.started(run_id, "tally")
    bounds.within(
        "2, queued and never sent",
        began - died,
        table="3-5 s",
        **bounds.LOST_MESSAGE,
    )
    assert retry(stack, key).status_code == 200
    assert runs_of(stack, key) == [run_id]
    stack.sound(run_id)


def test_crash_point_02__web_killed_after_its_commit_while_the_lane_has_a_limit(stack):
    stack.limit(4)
    key, died = post_and_lose_web(stack, "before_publish", any=False)
    (run_id,) = runs_of(stack, key)
    bounds.within(
        "2, ready", stack.started(run_id, "tally") - died, table="≤ 0.5 s",
        dispatcher=bounds.DISPATCHER, delivery=0.25,
    )  # fmt: skip
    assert retry(stack, key).status_code == 200
    stack.sound(run_id)


@pytest.mark.parametrize("limit", [None, 4])
def test_crash_point_03__dispatcher_killed_after_sending_before_its_commit(stack, limit):
    if limit:
        stack.limit(limit)
    stack.pause()
    run_id = stack.submit("lab.tally")
    stack.points.arm("after_dispatch_send_before_commit", role="manager")
    stack.resume()
    died = stack.points.fired("after_dispatch_send_before_commit").at
    bounds.within(
        f"3, lane {'with' if limit else 'without'} a limit",
        stack.started(run_id, "tally") - died,
        table="≤ 1-2 s",
        standby=bounds.STANDBY,
        dispatcher=bounds.DISPATCHER,
        delivery=0.25,
    )
    stack.sound(run_id)
    # The message was sent twice and claimed once: no step had a second attempt.
    assert {attempt for _, _, attempt, _ in stack.events(run_id, "step.started")} == {1}


@pytest.mark.parametrize("found", ["queued", "ready"])
def test_crash_point_04__web_cannot_reach_redis_and_the_run_begins_all_the_same(stack, found):
    """Redis stands still, and web gives up waiting for it: when it sends, or when it looks.

    It looks how long the queue is unless it has known that for less than a second.
    """
    stack.reaches(stack.submit("lab.writer"), "succeeded")  # web has a connection now
    if found == "ready":
        old = time.time() + SHORT_BELIEF_SECONDS + 0.1
        eventually(lambda: time.time() > old, within=5, what="what web knew is old")
    else:
        stack.submit("lab.only_think")  # answered with the length of the queue
    complaints = given_up(stack)
    with stack.redis().monitor() as monitor:
        with stack.stopped(stack.find("redis")):
            run_id = stack.submit("lab.writer")  # accepted although it cannot be sent
            eventually(lambda: given_up(stack) > complaints, within=5, what="web gave up")
            assert stack.step(run_id, "writer")["state"] == found
        back = time.time()
        began = stack.started(run_id, "writer")
        bounds.within(f"4, web, {found}", began - back, table="≤ 2 s", in_all=2.0)
        stack.sound(run_id, effects=1)
        assert pushes(stack, monitor) >= 1
    assert stack.step(run_id, "writer")["attempt"] == 1


def test_crash_point_04__sending_of_the_dispatcher_times_out_and_the_message_is_doubled(stack):
    """What timed out arrives all the same, and is sent again: the second one finds no work."""
    stack.limit(4)
    stack.reaches(stack.submit("lab.writer"), "succeeded")  # the dispatcher has a connection now
    # Another loop may have taken the last open connection in that very moment: then the dispatcher
    # times out while it opens one, and sends once.
    assert any(doubled(stack) for _ in range(4)), "nothing was doubled: it is not about anything"


def doubled(stack) -> bool:
    """Let a sending time out; return whether its message came all the same."""
    stack.pause()
    run_id = stack.submit("lab.writer")
    # It has asked how long the queue is, which it would wait for longer than for the sending, and
    # Redis stands still before the other loops miss it.
    server = stack.find("redis")
    order = {"role": "manager", "action": f"freeze:{server.pid}"}
    stack.points.arm("before_dispatch_send", lane="lab", **order)
    with stack.redis().monitor() as monitor:
        stack.resume()
        stack.points.fired("before_dispatch_send")
        with stack.stopped(server):  # it stands already; from here on it is let go
            # Not any loop: the others miss Redis as well, and may be the first to.
            eventually(lambda: "dispatcher" in stack.loops_away(), within=5, what="it gave up")
        back = time.time()
        began = stack.started(run_id, "writer")
        bounds.within("4, dispatcher", began - back, table="≤ 2 s", in_all=2.0)
        stack.sound(run_id, effects=1)
        sent = pushes(stack, monitor)
    assert stack.step(run_id, "writer")["attempt"] == 1
    return sent > 1


def pushes(stack, monitor) -> int:
    """Return how many messages Redis has been seen to put into the laboratory's queue."""
    end = str(uuid.uuid4())
    stack.redis().echo(end)
    seen = iter(lambda: monitor.next_command()["command"], f"ECHO {end}")
    return sum(command.startswith("LPUSH lab ") for command in seen)


def given_up(stack) -> int:
    return (stack.var / "log" / "app.log").read_text().count("publishing_paused")
