"""Cost does not grow with the tables: the pages a statement reads, beside large backlogs."""

from __future__ import annotations

import re
import uuid
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from engine import lanes, leases, run_selectors, selectors, sql, waits
from engine.models import AutomationVersion, Run, StepRun
from engine.states import RunState
from engine.transitions import claims, completions, dispatch, effects, failures
from orchestration.manager import unserved
from tests import seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Steps of each backlog. They lie on several hundred pages.
STEPS = 20_000
#: Runs of a burst, of one step each.
RUNS = 3000
#: What a look-up may read: some index pages of each lane, and a few rows.
FEW = 150
#: Steps: enough that one is not found by its id as fast as in an index of nothing.
LARGE = 100_000
HELD, SENT, FULL = (uuid.UUID(int=n) for n in (1, 2, 3))

#: What is done to one step by its holder.
OF_ONE_HELD = {
    "complete and go on": completions.alone(successor=True, sticky=True),
    "complete the last": completions.alone(successor=False, sticky=False),
    "show": claims.SHOW,
    "renew": claims.RENEW,
    "look": claims.HELD,
    "retry": failures.RETRY,
    "bury": failures.BURY,
    "cancel": failures.CANCEL,
    "begin an effect": effects.BEGIN,
}

OPEN_RUN = """
INSERT INTO engine_run (id, automation, department, version_id, state, ending, pending, generation,
    input, error_code, error_message, correlation_id, priority, tags, trigger, created_by,
    created_at, started_at)
VALUES (%(run)s, %(lane)s || '.big', %(lane)s, %(version)s, %(run_state)s, '', 1, 1, '{}', '', '',
    '', 0, '[]', 'api', '', now(), now())
"""
OPEN_RUNS = """
WITH run AS (
    INSERT INTO engine_run (id, automation, department, version_id, state, ending, pending,
        generation, input, error_code, error_message, correlation_id, priority, tags, trigger,
        created_by, created_at)
    SELECT gen_random_uuid(), 'line.up', %(lane)s, %(version)s, 'pending', '', 1, 1, '{}', '', '',
        '', 0, '[]', 'api', '', now() FROM generate_series(1, %(runs)s)
    RETURNING id)
INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending, priority,
    ready_at, dispatched_at, dispatches, attempt, failures, crashes, worker, cancel_requested,
    error_code, error_message)
SELECT id, 'step', -1, 'step', %(lane)s, %(lane)s, 'ready', 0, 0, now(), now(), 1, 0, 0, 0, '',
    false, '', '' FROM run
"""
BACKLOG = """
INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending, priority,
    ready_at, dispatched_at, dispatches, attempt, failures, crashes, worker, cancel_requested,
    error_code, error_message)
SELECT %(run)s, 'item', n, 'step', %(lane)s, %(lane)s, %(state)s, 0, 0, %(at)s, %(at)s, 1, 0, 0, 0,
    '', false, '', '' FROM generate_series(0, %(steps)s - 1) AS n
"""


@pytest.fixture
def backlogs(db):
    """A paused run with all ready, one with all sent long ago, and one just now, with a limit."""
    seed.finish(runs=1000)
    version = AutomationVersion.objects.first().pk
    long_ago, now = timezone.now() - timedelta(hours=1), timezone.now() + timedelta(hours=1)
    for run, lane, run_state, state, at in (
        (HELD, "held", "paused", "ready", long_ago),
        (SENT, "sent", "running", "queued", long_ago),
        (FULL, "full", "running", "queued", now),
    ):
        lanes.declare(slug=lane, queue=lane)
        values = {"run": run, "lane": lane, "version": version, "run_state": run_state}
        sql.count(OPEN_RUN, values)
        sql.count(BACKLOG, values | {"state": state, "steps": STEPS, "at": at})
    lanes.limit(slug="full", max_concurrency=10)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE engine_run, engine_steprun")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        # So small a table is read as a whole, or sorted: what counts is the way on a large one.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")


def pages(statement: str, **values) -> int:
    """Return how many pages a statement reads, as the processes run it: prepared, generic plan.

    EXPLAIN of the statement itself would plan it for these very values.
    """
    with prepared(statement) as read:
        return read(**values)


@contextmanager
def prepared(statement: str) -> Iterator[Callable[..., int]]:
    """Prepare a statement; what is yielded executes it and returns how many pages that reads."""
    names: list[str] = []

    def place(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    body = re.sub(r"%\((\w+)\)s", place, statement).replace("%%", "%")
    connection.ensure_connection()
    with psycopg.ClientCursor(connection.connection) as cursor:

        def read(**values) -> int:
            given = [values[name] for name in names]
            arguments = ", ".join(["%s"] * len(given))
            # Twice: the first one steps over what earlier tests rolled back, and marks it.
            for _ in range(2):
                cursor.execute(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name}"
                    + (f" ({arguments})" if given else ""),
                    given,
                )
                (plan,) = (row[0][0]["Plan"] for row in cursor.fetchall())
            return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

        name = f"asked_{id(read)}"
        cursor.execute(f"PREPARE {name} AS {body}")
        try:
            yield read
        finally:
            cursor.execute(f"DEALLOCATE {name}")


def test_take__of_a_lane_with_nothing_ready_does_not_read_what_others_have(backlogs):
    asked = {"lane": "sent", "limit": 500, "above": dispatch.LOWEST}
    assert pages(dispatch.TAKE, held=[], **asked) < FEW
    assert pages(dispatch.TAKE_PAST_HELD, **asked) < FEW


def test_look__for_lanes_with_something_ready_passes_by_a_held_run_at_once(backlogs):
    assert pages(lanes.WITH_READY) < FEW
    assert lanes.with_ready() == {}


def test_take__goes_past_everything_that_a_held_run_has_ready(backlogs):
    sql.count(
        "UPDATE engine_steprun SET lane = 'held', state = 'ready', priority = n.priority"
        " FROM (VALUES (0, 5), (1, 9), (2, 5)) AS n(map_index, priority)"
        " WHERE run_id = %(run)s AND engine_steprun.map_index = n.map_index",
        {"run": SENT},
    )
    assert lanes.with_ready() == {"held": "held"}
    asked = {"lane": "held", "limit": 500, "above": dispatch.LOWEST}
    assert pages(dispatch.TAKE_PAST_HELD, **asked) < FEW
    found = StepRun.objects.in_bulk([step.id for step in dispatch.take(lane="held", limit=500)])
    assert sorted(row.map_index for row in found.values()) == [0, 1, 2]
    (first,) = dispatch.take(lane="held", limit=1)
    assert found[first.id].map_index == 1, "priority above all"


def test_hand_back__reads_no_more_than_it_returns(backlogs):
    # At least what a page of rows costs: the statement also writes.
    statement = dispatch.HAND_BACK.replace("{which}", "lane = %(lane)s")
    asked = {"reason": "message_lost", "actor": "", "limit": 1}
    assert pages(statement, lane="sent", **asked) < FEW


def test_unserved__counts_no_further_than_anybody_reads(backlogs):
    assert pages(unserved.WAITING, queues=["orchestrator", "seeded0"], most=10_000) < FEW
    assert pages(unserved.WAITING, queues=["sent", "held"], most=50) < 2 * FEW
    with connection.cursor() as cursor:
        cursor.execute(unserved.WAITING, {"queues": ["sent", "held", "full"], "most": 7})
        assert dict(cursor.fetchall()) == {"sent": 7, "held": 7, "full": 7}


def test_with_ready__looks_at_few_steps_of_a_lane_and_not_at_every_run(db):
    """A burst comes before the statistics know of it: on tables that count as empty."""
    seed.finish(runs=1)
    version = AutomationVersion.objects.first().pk
    lanes.declare(slug="line", queue="line")
    lanes.declare(slug="idle", queue="idle")
    sql.count(OPEN_RUNS, {"lane": "line", "version": version, "runs": RUNS})
    assert set(lanes.with_ready()) == {"line"}
    assert pages(lanes.WITH_READY) < FEW


def test_held_steps__are_found_by_their_ids_whatever_else_is_in_flight(db):
    """The statistics are of a quiet moment, and say that nothing is in flight."""
    seed.finish(runs=1000)
    version = AutomationVersion.objects.first().pk
    lanes.declare(slug="sent", queue="sent")
    values = {"run": SENT, "lane": "sent", "version": version, "run_state": "running"}
    sql.count(OPEN_RUN, values)
    sql.count(BACKLOG, values | {"state": "queued", "steps": STEPS, "at": timezone.now()})
    ids = list(StepRun.objects.filter(run_id=SENT)[:32].values_list("pk", flat=True))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    claim = uuid.uuid4()
    held = {"ids": ids, "claim": claim, "worker": "w@h/1", "lease": 30.0}
    assert pages(claims.ARRIVING, **held) < 2 * FEW
    assert pages(claims.CLAIM_SEVERAL, **held) < 10 * FEW  # writes, too
    assert pages(leases.TOO_LONG_OF_THESE, **held, seconds=2.0, most=300.0, limit=5000) < 2 * FEW
    ended = {"began": [0.1] * 32, "ended": [0.0] * 32, "last": False}
    outputs = {"values": ["1"] * 32, "refs": [None] * 32}
    complete = completions.statement(successors=False, sinks=False, extras=False)
    assert pages(complete, **held, **ended, **outputs) < 10 * FEW


def test_held_step__is_found_by_its_id_by_a_plan_made_in_a_quiet_moment(db):
    """Nothing is in flight when the plans are made: an index of nothing looks cheaper than ids."""
    seed.finish(runs=1)
    lanes.declare(slug="sent", queue="sent")
    version = AutomationVersion.objects.first().pk
    values = {"lane": "sent", "version": version, "run_state": "running", "at": timezone.now()}
    waiting, sent = values | {"run": HELD}, values | {"run": SENT}
    sql.count(OPEN_RUN, waiting)
    sql.count(OPEN_RUN, sent)
    sql.count(BACKLOG, waiting | {"state": "waiting", "steps": LARGE})
    with connection.cursor() as cursor:
        cursor.execute("REINDEX INDEX steprun_in_flight")  # without what earlier tests left there
        cursor.execute("ANALYZE engine_run, engine_steprun")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    asked = {"id": StepRun.objects.first().pk, "claim": uuid.uuid4(), "last": True}
    with ExitStack() as kept:
        reads = {name: kept.enter_context(prepared(OF_ONE_HELD[name])) for name in OF_ONE_HELD}
        for name, read in reads.items():
            read(**_nothing(name) | asked)
        sql.count(BACKLOG, sent | {"state": "queued", "steps": STEPS})
        found = {name: read(**_nothing(name) | asked) for name, read in reads.items()}
    assert max(found.values()) < FEW, found


def _nothing(name: str) -> dict[str, None]:
    return dict.fromkeys(re.findall(r"%\((\w+)\)s", OF_ONE_HELD[name]))


def test_credit__is_counted_up_to_the_limit(backlogs):
    assert pages(lanes.CREDIT, lane="full") < FEW


def test_overdue__reads_of_each_lane_what_it_returns_and_nothing_sent_just_now(backlogs):
    asked = {"seconds": 2.0, "most": 300, "ids": [], "limit": 1}
    assert pages(leases.TOO_LONG_AND_NOT_HELD, **asked) < FEW
    assert set(leases.queued_too_long(older_than_seconds=2.0)) == {"sent"}


@pytest.fixture
def many_runs(db):
    """So many finished runs that a walk along all of them reads hundreds of pages."""
    seed.finish(runs=10_000)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")


NOWHERE = uuid.UUID(int=2**127)


def test_list__of_runs_reads_a_page_whatever_is_asked_for(many_runs):
    places = [
        ({"of": "department"}, {"of": ["rare"]}),
        ({"of": "department"}, {"of": ["seeded1"]}),
        ({"of": "department"}, {"of": ["rare", "seeded0", "seeded1"]}),
        ({"of": "automation"}, {"of": ["seeded1.report"]}),
        ({"of": ""}, {}),
    ]
    states = [["timed_out"], ["running"], ["failed"], list(RunState)]
    bounds = [(run_selectors.LAST_ID, run_selectors.FIRST_ID), (NOWHERE, run_selectors.FIRST_ID)]
    bounds += [(run_selectors.LAST_ID, NOWHERE)]
    for (shape, of), wanted, (before, after), upward in product(
        places, states, bounds, [False, True]
    ):
        text = run_selectors.statement(**shape, word="", by_state=True, dated=False, upward=upward)
        values = {"states": wanted, "before": before, "after": after, "limit": 50}
        read = pages(text, **of, **values)
        assert read < 2 * FEW, (read, of, wanted, before, after, upward)
    assert pages(waits.OPEN_RUNS, state="paused", before=waits.LAST_ID, limit=500) < FEW


def test_list__of_runs_by_word_reads_a_page(many_runs):
    sql.count("UPDATE engine_run SET error_code = 'odd' WHERE department = 'rare'")
    sql.count("UPDATE engine_run SET correlation_id = 'c' || id::text")
    one = Run.objects.filter(department="rare").first()
    for word, value in (("error_code", "odd"), ("correlation_id", f"c{one.pk}")):
        text = run_selectors.statement(of="", word=word, by_state=False, dated=False, upward=False)
        values = {"states": list(RunState), "word": value, "error_code": None, "limit": 50}
        ends = {"before": run_selectors.LAST_ID, "after": run_selectors.FIRST_ID}
        assert pages(text, **values, **ends) < FEW, word


def test_list__of_runs_by_tag_reads_a_page(many_runs):
    sql.count("UPDATE engine_run SET tags = '[\"all\"]'")
    sql.count("UPDATE engine_run SET tags = '[\"all\", \"few\"]' WHERE department = 'rare'")
    sql.count("ANALYZE engine_runtag")
    text = run_selectors.statement(of="", word="tag", by_state=False, dated=False, upward=False)
    asked = {"states": list(RunState), "error_code": None, "limit": 50}
    ends = {"before": run_selectors.LAST_ID, "after": run_selectors.FIRST_ID}
    assert pages(text, tag="few", **asked, **ends) < FEW
    assert pages(text, tag="all", **asked, **ends) < 2 * FEW  # a page and its rows


def test_list__of_runs_is_the_newest_of_all_states(many_runs):
    of = run_selectors.Wanted(department="seeded1")
    found = run_selectors.runs(wanted=of, limit=200)
    newest = Run.objects.filter(department="seeded1").order_by("-id")[:200]
    assert [run.pk for run in found] == [run.pk for run in newest]
    assert {run.state for run in found} > {"succeeded"}
    older = run_selectors.runs(
        wanted=run_selectors.Wanted(automation="seeded1.report"), limit=50, before=found[99].pk
    )
    assert [run.pk for run in older] == [run.pk for run in found[100:150]]
    newer = run_selectors.runs(wanted=of, limit=50, after=found[99].pk)
    assert [run.pk for run in newer] == [run.pk for run in found[49:99]]
    neither = run_selectors.Wanted(automation="seeded1.report", department="rare")
    assert run_selectors.runs(wanted=neither, limit=5) == []


def test_steps__of_a_run_are_found_without_those_of_all_others(many_runs):
    run_id = Run.objects.order_by("-id")[0].pk
    with CaptureQueriesContext(connection) as asked:
        assert [row.key for row in selectors.steps(run_id=run_id, limit=100)] == [
            "third",
            "second",
            "first",
        ]
    assert pages(asked[0]["sql"].replace("%", "%%")) < FEW
