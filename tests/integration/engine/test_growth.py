"""Cost does not grow with the tables: the pages a statement reads, beside large backlogs."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from engine import lanes, leases, sql
from engine.models import AutomationVersion
from engine.transitions import dispatch
from tests import seed

#: Steps of each backlog. They lie on several hundred pages.
STEPS = 20_000
#: Runs of a burst, of one step each.
RUNS = 3000
#: What a look-up may read: some index pages of each lane, and a few rows.
FEW = 90
HELD, SENT, FULL = (uuid.UUID(int=n) for n in (1, 2, 3))

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
        # So small a table is read as a whole, or sorted: what counts is the way on a large one.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")


def pages(statement: str, **values) -> int:
    """Return how many pages a statement reads."""
    # Twice: the first one steps over what earlier tests rolled back, and marks it.
    for _ in range(2):
        found = sql.rows(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values)
    plan = found[0][0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def test_take__of_a_lane_with_nothing_ready_does_not_read_what_others_have(backlogs):
    assert pages(dispatch.TAKE, lane="sent", limit=500, above=dispatch.LOWEST) < FEW


def test_with_ready__looks_at_few_steps_of_a_lane_and_not_at_every_run(db):
    """A burst comes before the statistics know of it: on tables that count as empty."""
    seed.finish(runs=1)
    version = AutomationVersion.objects.first().pk
    lanes.declare(slug="line", queue="line")
    lanes.declare(slug="idle", queue="idle")
    sql.count(OPEN_RUNS, {"lane": "line", "version": version, "runs": RUNS})
    assert set(lanes.with_ready()) == {"line"}
    assert pages(lanes.WITH_READY) < FEW


def test_credit__is_counted_up_to_the_limit(backlogs):
    assert pages(lanes.CREDIT, lane="full") < FEW


def test_overdue__reads_of_each_lane_what_it_returns_and_nothing_sent_just_now(backlogs):
    asked = {"seconds": 2.0, "most": 300, "ids": [], "limit": 1}
    assert pages(leases.TOO_LONG_AND_NOT_HELD, **asked) < FEW
    assert set(leases.queued_too_long(older_than_seconds=2.0)) == {"sent"}
