"""Build large tables fast: runs that have ended and runs that are open, true in every column.

Each run reads, maps over items, joins and reports; what became of it depends on its number, so that
every twentieth run is of each open kind. `generate_series` writes a million steps in a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection
from django.utils import timezone

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
    version = AutomationVersion.objects.create(
        automation="seeded.report",
        version=1,
        department=LANE,
        title="Seeded",
        checksum=GRAPH.checksum(input_schema={}),
        graph=GRAPH.dump(),
        input_schema={},
        created_at=timezone.now(),
    )
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
