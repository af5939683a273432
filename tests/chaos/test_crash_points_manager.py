"""Crash points 15-17 and 20: a manager or an orchestrator dies in the middle of what it does."""

from __future__ import annotations

import time
import uuid

import pytest

from tests.chaos import bounds
from tests.chaos.installation import CLAIM_IDLE_SECONDS
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("loop", ["dispatcher", "reaper"])
def test_crash_point_15__manager_killed_while_it_holds_the_lock(stack, loop):
    before = eventually(lambda: stack.lock_holder(loop), within=5)
    stack.points.arm(f"in_{loop}", role="manager")
    died = stack.points.fired(f"in_{loop}").at

    def taken_over() -> float:
        holder = stack.lock_holder(loop)
        return time.time() if holder not in {None, before} else 0.0

    at = eventually(taken_over, within=10, what="a peer holds the lock")
    bounds.within(f"15, {loop}", at - died, table="≤ 1-2 s", in_all=2.0)
    stack.sound(stack.submit("lab.tally"))


@pytest.mark.parametrize("action", ["kill", "kill-group"])
def test_crash_point_16__orchestrator_killed_in_the_middle_of_a_map(stack, action):
    stack.points.arm("in_expand", role="orchestrator", action=action)
    run_id = stack.submit("lab.booking", count=40)
    died = stack.points.fired("in_expand").at
    items = "SELECT count(*) FROM engine_steprun WHERE run_id = %s AND map_index >= 0"
    assert stack.rows(items, run_id) == [(0,)], "nothing of the map may be seen"

    def mapped() -> list:
        return stack.events(run_id, "step.mapped")

    ((at, *_),) = eventually(mapped, within=30, what="the map is planned")
    waiting = {"coming back": 3.0} if action == "kill-group" else {}
    bounds.within(
        f"16, {action}", at - died, table="5-30 s", lease=bounds.LEASE, reaper=bounds.REAPER,
        backoff=bounds.BACKOFF, timer=bounds.TIMER, dispatcher=bounds.DISPATCHER, **waiting,
    )  # fmt: skip
    stack.sound(run_id, effects=40)
    assert stack.rows(items, run_id) == [(40,)]


def ask(stack) -> str:
    """Ask for a run through the stream; return the event's id, which is its key."""
    key = f"event-{uuid.uuid4()}"
    stack.redis().xadd(
        "automation.events",
        {
            "event_id": key,
            "event_type": "automation.run.requested",
            "automation": "lab.tally",
            "data": "{}",
        },
    )
    return key


def runs_of(stack, key: str) -> list[tuple[str, float]]:
    statement = (
        "SELECT id::text, extract(epoch FROM created_at)::float8 FROM engine_run"
        " WHERE dedupe_key LIKE %s"
    )
    return stack.rows(statement, f"%{key}%")


@pytest.mark.parametrize("point", ["events_after_read", "events_before_ack"])
def test_crash_point_17__consumer_killed_while_it_holds_entries(stack, point):
    where = {"any": True} if point == "events_before_ack" else {}
    stack.points.arm(point, role="manager", **where)
    key = ask(stack)
    died = stack.points.fired(point).at
    pending = stack.redis().xpending("automation.events", "manager")["pending"]
    assert pending >= 1, "it died with the entry in its hands"
    ((run_id, created),) = eventually(lambda: runs_of(stack, key), within=30)
    if point == "events_after_read":
        assert created > died
    eventually(
        lambda: stack.redis().xpending("automation.events", "manager")["pending"] == 0,
        within=30,
        what="the entry is acknowledged",
    )
    bounds.within(
        f"17, {point}", time.time() - died, table="≤ 60 s", idle=CLAIM_IDLE_SECONDS,
        every=CLAIM_IDLE_SECONDS / 4, reading=1.0, loop=0.5,
    )  # fmt: skip
    stack.sound(run_id)
    assert len(runs_of(stack, key)) == 1


@pytest.fixture
def schedule(stack):
    """A schedule of every minute that fires when `due` is called; gone at the end."""
    name = f"chaos-{uuid.uuid4().hex[:8]}"
    stack.execute(
        "INSERT INTO departments_schedule (name, automation_id, input, cron, time_zone, catch_up,"
        " catch_up_limit, enabled, error) VALUES"
        " (%s, 'lab.tally', '{}', '* * * * *', 'UTC', 'all', 100, true, '')",
        name,
    )

    def due() -> str:
        statement = (
            "UPDATE departments_schedule SET next_fire_at = date_trunc('minute', clock_timestamp())"
            " WHERE name = %s"
        )
        stack.execute(statement, name)
        return f"schedule:{name}"

    yield due
    stack.execute("DELETE FROM departments_schedule WHERE name = %s", name)


@pytest.mark.parametrize("point", ["schedule_after_submit_before_commit", "before_publish"])
def test_crash_point_20__scheduler_killed_at_fire_time(stack, schedule, point):
    where = {"any": True} if point == "before_publish" else {}
    stack.points.arm(point, role="manager", **where)
    maker = schedule()
    died = stack.points.fired(point).at
    made = (
        "SELECT id::text, extract(epoch FROM created_at)::float8, dedupe_key FROM engine_run"
        " WHERE created_by = %s"
    )
    found = eventually(lambda: stack.rows(made, maker), within=10, what="the run of the fire time")
    run_id, created, key = found[0]
    if point == "before_publish":
        assert created < died, "it died after its commit"
        began = stack.started(run_id, "tally")
        bounds.within("20, not sent", began - died, table="as 2: 3-5 s", **bounds.LOST_MESSAGE)
    else:
        bounds.within(
            "20", created - died, table="≤ 1 s or policy", standby=bounds.STANDBY, tick=0.5
        )
    stack.sound(run_id)
    keys = [key for _, _, key in stack.rows(made, maker)]
    assert len(keys) == len(set(keys)), "one run a fire time"
    assert keys.count(key) == 1
