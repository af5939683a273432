"""The history of waiting, turned by hand."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F

from engine import lanes, late_steps, leases, runs, waits
from engine.models import RunEvent, StepRun, WorkerPresence
from orchestration.manager.waits import Waits
from tests.eventually import eventually
from tests.integration.orchestration.conftest import in_thread
from tests.waiting import present

MANY = 3000


@pytest.fixture
def loop(platform, stop):
    return Waits(stop=stop)


def older(seconds: float = 10.0, **which) -> None:
    """Let the ready and the sent have been so for longer."""
    span = timedelta(seconds=seconds)
    StepRun.objects.filter(state__in=["ready", "queued"], **which).update(
        ready_at=F("ready_at") - span, dispatched_at=F("dispatched_at") - span
    )


def notes(run_id=None) -> list[tuple[str, str]]:
    found = RunEvent.objects.filter(kind__in=["run.waiting", "run.going_on"]).order_by("id")
    if run_id is not None:
        found = found.filter(run_id=run_id)
    return [(event.kind, event.data["reason_code"]) for event in found]


def begin(run_id) -> None:
    """Let a worker take what is sent of a run."""
    ids = list(StepRun.objects.filter(run_id=run_id, state="queued").values_list("id", flat=True))
    leases.claim(step_run_ids=ids, worker="w/1")


def test_wait__is_noted_when_it_begins_and_when_it_is_over(loop, submitted):
    loop.tick()
    assert notes() == []
    older()
    for _ in range(3):
        loop.tick()
    (event,) = RunEvent.objects.filter(kind="run.waiting")
    row = StepRun.objects.get(run_id=submitted, key="numbers")
    assert event.data["reason_code"] == "no_worker"
    assert (event.data["queue"], event.data["steps"]) == ("lab", 1)
    assert event.data["since"] == row.ready_at.isoformat()
    assert event.data["message"].startswith("Waits at the queue lab since ")
    begin(submitted)
    for _ in range(3):
        loop.tick()
    (event,) = RunEvent.objects.filter(kind="run.going_on")
    assert event.data["waited_seconds"] == pytest.approx(10, abs=5)
    assert notes() == [("run.waiting", "no_worker"), ("run.going_on", "no_worker")]


def test_wait__of_a_moment_leaves_no_line(loop, submitted):
    older(3)
    loop.tick()
    begin(submitted)
    older(60)
    loop.tick()
    assert notes() == []


def test_wait__changes_its_cause_when_that_was_seen_twice(loop, submitted):
    present("lab")
    older()
    loop.tick()
    assert notes() == [("run.waiting", "queued")]
    lanes.pause(slug="lab", actor="ann")
    loop.tick()
    assert len(notes()) == 1
    loop.tick()
    assert notes()[1:] == [("run.going_on", "queued"), ("run.waiting", "department_paused")]
    lanes.resume(slug="lab")
    loop.tick()
    lanes.pause(slug="lab", actor="ann")
    loop.tick()
    loop.tick()
    assert len(notes()) == 3


def test_wait__of_a_cancelled_run_is_over(loop, submitted):
    older()
    loop.tick()
    runs.cancel(run_id=submitted, actor="ann")
    loop.tick()
    assert notes()[-1] == ("run.going_on", "no_worker")
    assert RunEvent.objects.get(kind="run.going_on").data["run_state"] == "cancelled"


def test_takeover__notes_nothing_twice_and_closes_what_ended_meanwhile(loop, platform, stop):
    going, staying = (
        runs.submit(automation="lab.squares", input={"count": 2}, trigger="command").run_id
        for _ in range(2)
    )
    older()
    loop.tick()
    begin(going)
    other = Waits(stop=stop)
    for _ in range(8):
        other.tick()
    assert [kind for kind, _cause in notes(going)] == ["run.waiting", "run.going_on"]
    assert [kind for kind, _cause in notes(staying)] == ["run.waiting"]


def test_error__forgets_what_could_not_be_written_and_finds_it_again(loop, submitted, monkeypatch):
    older()
    with monkeypatch.context() as patched:
        patched.setattr(waits, "NOTE", "SELECT nothing FROM nowhere")
        assert loop.turn() > 0
        assert loop.state == "failing"
    loop.tick()
    assert notes() == [("run.waiting", "no_worker")]


def test_no_worker__is_in_the_history_within_thirty_seconds(loop, submitted):
    """The worker has just become too silent to count; two looks later it stands there."""
    silent = WorkerPresence.ONLINE_SECONDS
    present("lab")
    older()
    loop.tick()
    WorkerPresence.objects.update(seen_at=F("seen_at") - timedelta(seconds=silent))
    loop.tick()
    loop.tick()
    assert notes()[-1] == ("run.waiting", "no_worker")
    assert silent + 2 * loop.interval < 30


def many(number: int, *, state: str) -> None:
    """Multiply the one run of the database, as cheaply as can be."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO engine_run SELECT (r).* FROM (SELECT jsonb_populate_record(r, jsonb_build"
            "_object('id', gen_random_uuid())) AS r FROM engine_run r, generate_series(2, %s)) x",
            [number],
        )
        cursor.execute(
            "INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending,"
            " priority, ready_at, dispatched_at, dispatches, attempt, failures, crashes, worker,"
            " cancel_requested, error_code, error_message)"
            " SELECT id, 'numbers', -1, 'step', 'lab', 'lab', %s, 0, 0,"
            " now() - interval '1 hour', now() - interval '1 hour',"
            " 0, 0, 0, 0, '', false, '', '' FROM engine_run r WHERE NOT EXISTS"
            " (SELECT 1 FROM engine_steprun s WHERE s.run_id = r.id)",
            [state],
        )
        cursor.execute("ANALYZE engine_steprun; ANALYZE engine_run")


def test_flood__is_written_once_each_and_at_a_pace(loop, submitted):
    lanes.pause(slug="lab", actor="ann")
    older()
    many(MANY, state="ready")
    written = []
    for _ in range(2 + MANY // late_steps.PAGE + 5):
        before = RunEvent.objects.count()
        loop.tick()
        written.append(RunEvent.objects.count() - before)
    assert max(written) <= late_steps.PAGE
    assert written[-4:] == [0, 0, 0, 0]
    assert notes() == [("run.waiting", "department_paused")] * MANY
    assert RunEvent.objects.filter(kind="run.waiting").values("run_id").distinct().count() == MANY


@pytest.mark.parametrize(
    ("state", "statement", "index"),
    [
        ("ready", late_steps.LATE_READY, "steprun_ready"),
        ("queued", late_steps.LATE_QUEUED, "steprun_in_flight"),
    ],
)
def test_page__reads_its_index_and_not_the_backlog(submitted, state, statement, index):
    many(MANY * 5, state=state)
    values = {
        "lanes": ["lab"],
        "priorities": [0],
        "moments": [late_steps.BEGINNING[0]],
        "ids": [0],
        "patience": 5.0,
        "limit": 10,
    }
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        (found,) = cursor.fetchone()
    plan = found if isinstance(found, list) else json.loads(found)
    nodes = list(walk(plan[0]["Plan"]))
    scans = [node for node in nodes if node.get("Relation Name") == "engine_steprun"]
    assert [node["Index Name"] for node in scans] == [index]


def walk(node):
    yield node
    for below in node.get("Plans", []):
        yield from walk(below)


def test_loop__works_in_the_manager(loop, submitted, stop):
    older()
    loop.interval = 0.05
    thread = in_thread(loop)
    try:
        eventually(notes, within=10)
    finally:
        stop.set()
        thread.join(10)
