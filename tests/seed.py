"""Build large tables fast: runs that have ended and runs that are open, true in every column.

`build`: each run reads, maps over items, joins and reports; what became of it depends on its
number, so that every twentieth run is of each open kind. `finish`: what years of work leave, runs
of three steps that have ended. `generate_series` writes a million steps in a minute.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import timedelta

import django
from django.db import connection, transaction
from django.utils import timezone

if __name__ == "__main__":
    django.setup()

from engine.graph import Binding, Graph, Node
from engine.models import AutomationVersion, Lane

LANE = "seeded"
#: Steps of a run: report, join, map, read, and its items.
ITEMS = 6
STEPS_PER_RUN = 4 + ITEMS
#: What a run of number n is, by n modulo 20; all others have succeeded. Of an open run the item 0
#: is where it stands, everything before and beside it has succeeded.
KINDS = {0: "dead", 1: "running", 2: "retry_wait", 3: "queued", 4: "cancelled", 5: "ready"}

GRAPH = Graph(
    nodes=(
        Node(key="read", step="seeded.read"),
        Node(key="item", step="seeded.item", over={"value": Binding(source="node", key="read")}),
        Node(key="join", step="seeded.join", args={"v": Binding(source="node", key="item")}),
        Node(key="report", step="seeded.report", args={"v": Binding(source="node", key="join")}),
    ),
    output="report",
)

_KIND = "CASE n %% 20 " + " ".join(f"WHEN {n} THEN '{k}'" for n, k in KINDS.items())
RUNS = f"""
INSERT INTO engine_run (id, automation, department, version_id, state, ending, pending, generation,
    input, error_code, error_message, correlation_id, priority, tags, trigger, created_by,
    created_at, started_at, finished_at)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'seeded.report', '{LANE}',
    %(version)s,
    CASE kind WHEN 'dead' THEN 'blocked' WHEN 'cancelled' THEN 'cancelled'
        WHEN 'succeeded' THEN 'succeeded' ELSE 'running' END,
    CASE kind WHEN 'cancelled' THEN 'cancelled' ELSE '' END,
    CASE kind WHEN 'succeeded' THEN 0 ELSE 1 END, 1, '{{}}', '', '', '', 0, '[]', 'command', 'seed',
    now(), now(), CASE WHEN kind IN ('cancelled', 'succeeded') THEN now() END
FROM (SELECT n, {_KIND} ELSE 'succeeded' END AS kind FROM generate_series(1, %(runs)s) AS n) t
"""
# Ids fall along the graph: the report first, the items last, as `submit` and a map insert them.
STEPS = f"""
INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending, priority,
    ready_at, dispatched_at, dispatches, attempt, failures, crashes, claim, worker, next_at,
    cancel_requested, error_code, error_message, started_at, finished_at)
SELECT run_id, key, map_index, step_kind, '{LANE}', '{LANE}', state,
    CASE WHEN kind <> 'succeeded' AND key IN ('join', 'report') THEN 1 ELSE 0 END, 0, now(), now(),
    1, CASE WHEN state IN ('succeeded', 'running', 'retry_wait') THEN 1
        WHEN state = 'dead' THEN 3 ELSE 0 END,
    CASE state WHEN 'dead' THEN 3 WHEN 'retry_wait' THEN 1 ELSE 0 END, 0,
    CASE WHEN state IN ('succeeded', 'running') THEN gen_random_uuid() END, 'seed/1',
    CASE state WHEN 'retry_wait' THEN now() + interval '1 day' END, state = 'cancelled', '', '',
    now(), CASE WHEN state IN ('succeeded', 'dead', 'cancelled') THEN now() END
FROM (SELECT r.id AS run_id, k.kind, p.*,
        CASE WHEN k.kind = 'succeeded' THEN 'succeeded'
            WHEN p.key = 'item' AND p.map_index = 0 THEN k.kind
            WHEN p.key IN ('join', 'report') THEN
                CASE k.kind WHEN 'cancelled' THEN 'cancelled' ELSE 'waiting' END
            ELSE 'succeeded' END AS state
    FROM engine_run r
    CROSS JOIN LATERAL (
        SELECT COALESCE((SELECT {_KIND} ELSE 'succeeded' END
            FROM (SELECT ('x' || right(r.id::text, 8))::bit(32)::int AS n) x)) AS kind) k
    CROSS JOIN (SELECT * FROM (VALUES (1, 'report', -1, 'step'), (2, 'join', -1, 'step'),
            (3, 'item', -1, 'map'), (4, 'read', -1, 'step')) AS v(rank, key, map_index, step_kind)
        UNION ALL SELECT 5 + i, 'item', i, 'step' FROM generate_series(0, {ITEMS - 1}) AS i) p
    WHERE r.version_id = %(version)s ORDER BY r.id, p.rank) t
"""
OUTPUTS = """
INSERT INTO engine_stepoutput (step_run_id, value)
SELECT id, '1' FROM engine_steprun WHERE state = 'succeeded' AND kind = 'step'
"""
INPUTS = """
INSERT INTO engine_stepinput (step_run_id, value)
SELECT id, '{"value": 1}' FROM engine_steprun WHERE map_index >= 0
"""
LEASES = """
INSERT INTO engine_lease (claim, worker, expires_at)
SELECT claim, worker, now() + interval '1 day' FROM engine_steprun WHERE state = 'running'
"""
LETTERS = f"""
INSERT INTO engine_deadletter (run_id, step_run_id, department, automation, step, map_index, state,
    error_code, error_message, attempts, crashes, created_at, resolved_by)
SELECT run_id, id, '{LANE}', 'seeded.report', key, map_index, 'open', 'broken', '', 3, 0, now(), ''
FROM engine_steprun WHERE state = 'dead'
"""
RUN_EVENTS = """
INSERT INTO engine_runevent (run_id, kind, actor, data, at)
SELECT r.id, k.kind, '', '{}', now() FROM engine_run r CROSS JOIN LATERAL (
    VALUES (1, 'run.submitted'), (2, 'run.started'),
        (3, CASE WHEN r.state = 'cancelled' THEN 'run.cancel_requested' END),
        (4, CASE WHEN r.finished_at IS NOT NULL THEN 'run.' || r.state END)) AS k(rank, kind)
WHERE k.kind IS NOT NULL ORDER BY r.id, k.rank
"""
STEP_EVENTS = """
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT s.run_id, s.id, k.kind, k.attempt, 'seed/1',
    CASE k.kind WHEN 'step.mapped' THEN %(mapped)s::jsonb ELSE '{}' END, now()
FROM engine_steprun s CROSS JOIN LATERAL (
    SELECT a AS attempt, 1 AS rank, 'step.started' AS kind FROM generate_series(1, s.attempt) AS a
    UNION ALL SELECT a, 2, 'step.retried' FROM generate_series(1,
        CASE s.state WHEN 'dead' THEN 2 WHEN 'retry_wait' THEN 1 ELSE 0 END) AS a
    UNION ALL SELECT s.attempt, 3, CASE WHEN s.kind = 'map' THEN 'step.mapped'
        ELSE 'step.' || s.state END WHERE s.finished_at IS NOT NULL) k
ORDER BY s.id, k.attempt, k.rank
"""
TABLES = (
    "engine_run, engine_steprun, engine_stepoutput, engine_stepinput, engine_lease,"
    " engine_deadletter, engine_runevent"
)


@dataclass(frozen=True, slots=True)
class Seeded:
    """How much was built."""

    runs: int
    steps: int


def build(*, steps: int) -> Seeded:
    """Fill an empty database with about so many StepRuns and everything that belongs to them."""
    version = _version(LANE, GRAPH)
    Lane.objects.update_or_create(slug=LANE, defaults={"queue": LANE})
    runs = max(steps // STEPS_PER_RUN, 20)
    with connection.cursor() as cursor:
        cursor.execute(RUNS, {"version": version.pk, "runs": runs})
        cursor.execute(STEPS, {"version": version.pk})
        for statement in (OUTPUTS, INPUTS, LEASES, LETTERS, RUN_EVENTS):
            cursor.execute(statement)
        cursor.execute(STEP_EVENTS, {"mapped": f'{{"items": {ITEMS}}}'})
        cursor.execute(f"ANALYZE {TABLES}")
    return Seeded(runs, runs * STEPS_PER_RUN)


#: The departments of finished runs; the last one has hardly any.
DEPARTMENTS = ("seeded0", "seeded1", "seeded2", "seeded3", "rare")
CHAIN = Graph(
    nodes=(
        Node(key="first", step="seeded.first"),
        Node(key="second", step="seeded.second", args={"v": Binding(source="node", key="first")}),
        Node(key="third", step="seeded.third", args={"v": Binding(source="node", key="second")}),
    ),
    output="third",
)
#: Finished runs written by one statement: a transaction must not take for ever.
PIECE = 50_000
#: The finished runs were made in so many days, up to an hour ago.
DAYS = 30
#: The moments of the runs are spread as if there were so many, so that more can be added later.
MOST = 1_000_000
#: How a run of number n ended, by n modulo 100,000: one in a thousand failed, one in a hundred was
#: cancelled, ten in a million ran out of time; all others have succeeded.
_HOW = """CASE WHEN n %% 100000 = 7 THEN 'timed_out' WHEN n %% 1000 = 8 THEN 'failed'
    WHEN n %% 100 = 9 THEN 'cancelled' ELSE 'succeeded' END"""
FINISHED = f"""
WITH planned AS MATERIALIZED (
    SELECT n, how, department, automation, version, at,
        (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000'
            || lpad(to_hex(n), 12, '0'))::uuid AS id
    FROM (SELECT n, {_HOW} AS how, CASE WHEN n %% 100000 = 5 THEN 5 ELSE 1 + n %% 4 END AS place,
            %(since)s::timestamptz + n * %(pace)s::interval AS at
        FROM generate_series(%(first)s::bigint, %(last)s) AS n) g
    JOIN unnest(%(departments)s::text[], %(versions)s::bigint[]) WITH ORDINALITY
        AS d(department, version, place) USING (place)
    CROSS JOIN LATERAL (SELECT department || '.report' AS automation) a),
runs AS (
    INSERT INTO engine_run (id, automation, department, version_id, state, ending, pending,
        generation, input, error_code, error_message, correlation_id, priority, tags, trigger,
        created_by, deadline_at, created_at, started_at, finished_at)
    SELECT id, automation, department, version, how, CASE how WHEN 'succeeded' THEN '' ELSE how END,
        CASE how WHEN 'succeeded' THEN 0 ELSE 1 END, 1, '{{"month": "2026-10"}}',
        CASE how WHEN 'failed' THEN 'step_dead' WHEN 'timed_out' THEN 'deadline_passed'
            WHEN 'cancelled' THEN how ELSE '' END, '', md5(n::text), 0, '["seeded"]', 'api', 'seed',
        CASE how WHEN 'timed_out' THEN at + interval '1 second' END, at,
        at + interval '3 ms', at + interval '2 seconds'
    FROM planned ORDER BY n),
steps AS (
    INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending, priority,
        ready_at, dispatched_at, dispatches, attempt, failures, crashes, claim, worker,
        cancel_requested, error_code, error_message, started_at, finished_at)
    SELECT p.id, v.key, -1, 'step', p.department, p.department, s.state,
        CASE WHEN p.how <> 'succeeded' AND v.place = 3 THEN 1 ELSE 0 END, 0,
        CASE WHEN s.began THEN p.at END, CASE WHEN s.began THEN p.at END, 0,
        CASE s.state WHEN 'succeeded' THEN 1 WHEN 'dead' THEN 3 ELSE 0 END,
        CASE s.state WHEN 'dead' THEN 3 ELSE 0 END, 0,
        CASE s.state WHEN 'succeeded' THEN gen_random_uuid() END,
        CASE WHEN s.began THEN 'seed@host/1' ELSE '' END, s.state = 'cancelled',
        CASE s.state WHEN 'dead' THEN 'broken' WHEN 'cancelled' THEN
            CASE p.how WHEN 'failed' THEN 'upstream_dead' ELSE p.how END ELSE '' END, '',
        CASE WHEN s.began THEN p.at + v.place * interval '500 ms' END,
        p.at + v.place * interval '600 ms'
    FROM planned p
    CROSS JOIN (VALUES (3, 'third'), (2, 'second'), (1, 'first')) AS v(place, key)
    CROSS JOIN LATERAL (SELECT CASE WHEN p.how = 'succeeded' OR v.place = 1 THEN 'succeeded'
        WHEN p.how = 'failed' AND v.place = 2 THEN 'dead' ELSE 'cancelled' END AS state) t
    CROSS JOIN LATERAL (SELECT t.state, t.state <> 'cancelled' AS began) s
    ORDER BY p.n, v.place DESC
    RETURNING id, run_id, key, state, attempt, started_at, finished_at, worker),
outputs AS (
    INSERT INTO engine_stepoutput (step_run_id, value)
    -- As small as outputs are at least: PostgreSQL would put a smaller one into what is left of any
    -- full page, an old page for each, and who measures would measure that.
    SELECT id, to_jsonb(55) FROM steps WHERE state = 'succeeded' ORDER BY id),
letters AS (
    INSERT INTO engine_deadletter (run_id, step_run_id, department, automation, step, map_index,
        state, error_code, error_message, attempts, crashes, created_at, notified_at, resolved_at,
        resolved_by)
    SELECT s.run_id, s.id, p.department, p.automation, s.key, -1, 'discarded', 'broken', '', 3, 0,
        s.finished_at, s.finished_at, s.finished_at, 'seed'
    FROM steps s JOIN planned p ON p.id = s.run_id WHERE s.state = 'dead' ORDER BY s.id)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, step_run_id, kind, attempt, actor, '{{}}', at FROM (
    SELECT p.id AS run_id, NULL::bigint AS step_run_id, k.kind, NULL::int AS attempt, '' AS actor,
        p.at + k.after AS at, k.place
    FROM planned p CROSS JOIN LATERAL (VALUES (1, 'run.submitted', interval '0'),
        (3, 'run.started', interval '3 ms'),
        (8, CASE p.how WHEN 'cancelled' THEN 'run.cancel_requested' END, interval '1 second'),
        (20, 'run.' || p.how, interval '2 seconds')) AS k(place, kind, after)
    WHERE k.kind IS NOT NULL
    UNION ALL
    SELECT s.run_id, s.id, k.kind, k.attempt, s.worker, k.at, k.place
    FROM steps s CROSS JOIN LATERAL (
        SELECT 2 + 3 * a AS place, 'step.started' AS kind, a AS attempt, s.started_at AS at
        FROM generate_series(1, s.attempt) AS a
        UNION ALL
        SELECT 3 + 3 * a, 'step.retried', a, s.started_at FROM generate_series(1, s.attempt - 1) a
        UNION ALL
        SELECT 4 + 3 * GREATEST(s.attempt, 2), 'step.' || s.state, s.attempt, s.finished_at
        ) AS k) e
ORDER BY run_id, place, step_run_id DESC
"""


def finish(*, runs: int, first: int = 1) -> Seeded:
    """Add finished runs of three steps with their outputs and history, as the engine leaves them.

    first: number of the first one; numbers that were used before are refused.
    """
    versions = [_version(department, CHAIN) for department in DEPARTMENTS]
    for department in DEPARTMENTS:
        Lane.objects.get_or_create(slug=department, defaults={"queue": department})
    values = {
        "departments": list(DEPARTMENTS),
        "versions": [version.pk for version in versions],
        "since": versions[0].created_at - timedelta(days=DAYS, hours=1),
        "pace": timedelta(days=DAYS) / max(runs + first, MOST),
    }
    end = first + runs
    for start in range(first, end, PIECE):
        with transaction.atomic(), connection.cursor() as cursor:
            # The planner knows nothing of the generated rows, and a nested loop would be its guess.
            cursor.execute("SET LOCAL synchronous_commit = off; SET LOCAL work_mem = '256MB'")
            last = min(start + PIECE, end) - 1
            cursor.execute(FINISHED, values | {"first": start, "last": last})
    with connection.cursor() as cursor:
        how = "ANALYZE" if connection.in_atomic_block else "VACUUM (ANALYZE)"
        cursor.execute(f"{how} {TABLES}")
    return Seeded(runs, 3 * runs)


def _version(department: str, graph: Graph) -> AutomationVersion:
    found, _made = AutomationVersion.objects.get_or_create(
        automation=f"{department}.report",
        version=1,
        defaults={
            "department": department,
            "title": "Seeded",
            "checksum": graph.checksum(input_schema={}),
            "graph": graph.dump(),
            "input_schema": {},
            "created_at": timezone.now(),
        },
    )
    return found


def main() -> None:
    """Fill the database that the environment names: `python -m tests.seed --finished 1000000`."""
    parser = argparse.ArgumentParser(prog="python -m tests.seed")
    parser.add_argument("--finished", type=int, required=True, metavar="RUNS")
    finish(runs=parser.parse_args().finished)


if __name__ == "__main__":
    main()
