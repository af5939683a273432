"""I1, I4, I5: every run has its whole plan, in order, and its counters are true.

The graph is JSON in `engine_automationversion`, a small table: verification reads it once and hands
nodes and edges to these statements as arrays.
"""

from __future__ import annotations

from engine.invariants.surveys import Check, Survey

NODES = """
node AS MATERIALIZED (
    SELECT * FROM unnest(%(node_versions)s::bigint[], %(node_keys)s::text[], %(node_kinds)s::text[],
        %(node_sinks)s::boolean[]) AS t(version_id, key, kind, sink))
"""
#: A planner that has not succeeded counts once and has no items; afterwards each item counts.
OWED = """
edge AS MATERIALIZED (
    SELECT * FROM unnest(%(edge_versions)s::bigint[], %(edge_parents)s::text[],
        %(edge_children)s::text[]) AS t(version_id, parent, child)),
owed AS (
    SELECT p.run_id, e.child AS key, count(*) AS n
    FROM engine_steprun p
    JOIN engine_run r ON r.id = p.run_id
    JOIN edge e ON e.version_id = r.version_id AND e.parent = p.key
    WHERE p.state <> 'succeeded' GROUP BY p.run_id, e.child)
"""
STARTED = "('ready', 'queued', 'running', 'retry_wait', 'sleeping', 'awaiting', 'succeeded')"
CANCEL_IT = "Cancel the run and start it again; keep its history for the bug report."

RUNS = Survey(
    name="runs",
    before=f"""{NODES},
        plan AS (SELECT version_id, count(*) AS keys FROM node GROUP BY version_id),
        found AS (
            SELECT s.run_id, count(*) FILTER (WHERE s.map_index = -1) AS keys,
                count(*) FILTER (WHERE n.sink AND s.state <> 'succeeded') AS owed,
                count(*) FILTER (WHERE s.state <> 'succeeded') AS unfinished,
                count(*) FILTER (WHERE s.state NOT IN
                    ('succeeded', 'failed', 'dead', 'cancelled', 'skipped')) AS open,
                count(*) FILTER (WHERE s.state = 'dead') AS dead
            FROM engine_steprun s JOIN engine_run r ON r.id = s.run_id
            LEFT JOIN node n ON n.version_id = r.version_id AND n.key = s.key
            GROUP BY s.run_id),
        letter AS (SELECT DISTINCT run_id FROM engine_deadletter WHERE state = 'open')""",
    source="""
        FROM engine_run r LEFT JOIN plan p ON p.version_id = r.version_id
        LEFT JOIN found f ON f.run_id = r.id LEFT JOIN letter d ON d.run_id = r.id""",
    run_id="r.id",
    facts={
        "state": "r.state",
        "pending": "r.pending",
        "owed": "COALESCE(f.owed, 0)",
        "unfinished": "COALESCE(f.unfinished, 0)",
        "keys": "COALESCE(f.keys, 0)",
        "planned": "COALESCE(p.keys, 0)",
        "dead": "COALESCE(f.dead, 0)",
        "ending": "r.ending",
    },
    checks=(
        Check(
            name="plan_is_whole",
            invariant="I1",
            broken="COALESCE(f.keys, 0) <> COALESCE(p.keys, 0)",
            says="has {keys} of the {planned} steps of its plan",
            remedy=CANCEL_IT,
        ),
        Check(
            name="run_pending_counts",
            invariant="I5",
            broken="r.pending <> COALESCE(f.owed, 0)",
            says="counts {pending} unfinished last steps, {owed} have not succeeded",
            remedy=CANCEL_IT,
        ),
        Check(
            name="succeeded_run_is_done",
            invariant="I5",
            broken="r.state = 'succeeded' AND COALESCE(f.unfinished, 0) > 0",
            says="is succeeded with {unfinished} steps that have not",
            remedy="Do not trust its result: start it again.",
        ),
        Check(
            name="open_run_goes_on",
            invariant="I2",
            broken="r.state IN ('pending', 'running', 'paused') AND COALESCE(f.open, 0) = 0"
            " AND COALESCE(f.dead, 0) = 0",
            says="is {state} and no step of it is open: nobody will end it",
            remedy=CANCEL_IT,
        ),
        Check(
            name="dead_step_blocks_its_run",
            invariant="I2",
            broken="r.state IN ('pending', 'running') AND f.dead > 0",
            says="is {state} with {dead} dead steps: nothing shows that it waits for an operator",
            remedy="Pause and resume the run: resuming finds the dead step and blocks it.",
        ),
        Check(
            name="blocked_run_has_a_letter",
            invariant="I2",
            broken="r.state = 'blocked' AND d.run_id IS NULL",
            says="is blocked and has no open dead letter: nobody is asked",
            remedy="Cancel the run, or retry it.",
        ),
        Check(
            name="ending_is_named",
            invariant="I2",
            broken="r.state = 'cancelling' AND r.ending NOT IN"
            " ('cancelled', 'failed', 'timed_out')",
            says="is ending towards {ending!r}, which is no end",
            remedy="Set `ending` to cancelled by hand; the manager then ends it. Report it.",
        ),
    ),
)

MAPS = Survey(
    name="maps",
    before="""
        items AS (SELECT run_id, key, count(*) AS n, max(map_index) AS top FROM engine_steprun
            WHERE map_index >= 0 GROUP BY run_id, key),
        told AS (SELECT step_run_id, max((data ->> 'items')::int) AS n FROM engine_runevent
            WHERE kind = 'step.mapped' GROUP BY step_run_id)""",
    source="""
        FROM engine_steprun s LEFT JOIN items i ON i.run_id = s.run_id AND i.key = s.key
        LEFT JOIN told t ON t.step_run_id = s.id
        WHERE s.kind = 'map'""",
    run_id="s.run_id",
    step_run_id="s.id",
    facts={"items": "COALESCE(i.n, 0)", "told": "t.n", "top": "i.top", "state": "s.state"},
    checks=(
        Check(
            name="map_is_whole",
            invariant="I1",
            broken="s.state = 'succeeded' AND (t.n IS DISTINCT FROM COALESCE(i.n, 0)"
            " OR COALESCE(i.top, -1) <> COALESCE(i.n, 0) - 1)",
            says="was expanded to {told} items; there are {items}, the highest index is {top}",
            remedy=CANCEL_IT,
        ),
        Check(
            name="items_follow_their_planner",
            invariant="I4",
            broken="s.state <> 'succeeded' AND i.n > 0",
            says="is {state} and has {items} items already",
            remedy=CANCEL_IT,
        ),
    ),
)
