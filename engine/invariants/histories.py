"""I3, I7, I9, I10: the history says what the rows say, once.

Events are append-only and written with the change they tell of, so they show what a row cannot: an
end that happened twice, a row that moved after its end, a start after a cancel. Those of one step
are in the order of its transactions: each is inserted under the lock of the step's row.
"""

from __future__ import annotations

from engine.invariants.surveys import Check, Survey

#: A claim that is waiting for a lock when the cancel comes may be told after it; the sweep, which
#: the caller waits for, is behind the same lock. Longer than that is a claim after a cancel.
RACE_SECONDS = 10
UNSURE = "Do not trust this run's result: compare its events with its rows, and report it."

STEPS = Survey(
    name="step_histories",
    before="""
        told AS (
            SELECT step_run_id,
                count(*) FILTER (WHERE kind = 'step.started') AS started,
                count(*) FILTER (WHERE kind IN ('step.succeeded', 'step.mapped')) AS succeeded,
                count(*) FILTER (WHERE kind = 'step.retried') AS retried,
                count(*) FILTER (WHERE kind = 'step.dead') AS dead,
                count(*) FILTER (WHERE kind = 'step.cancelled') AS cancelled,
                count(*) FILTER (WHERE kind = 'step.awaiting') AS asked,
                count(*) FILTER (WHERE kind = 'step.requeued') AS requeued,
                max(id) FILTER (WHERE kind IN ('step.succeeded', 'step.mapped', 'step.dead',
                    'step.cancelled')) AS ended_at,
                max(id) FILTER (WHERE kind IN ('step.succeeded', 'step.mapped')) AS succeeded_at,
                max(id) FILTER (WHERE kind = 'step.dead') AS dead_at,
                max(id) FILTER (WHERE kind = 'step.cancelled') AS cancelled_at,
                max(id) FILTER (WHERE kind IN ('step.started', 'step.retried', 'step.released',
                    'step.awaiting', 'step.requeued')) AS moved_at
            FROM engine_runevent WHERE step_run_id IS NOT NULL GROUP BY step_run_id)""",
    source="FROM engine_steprun s LEFT JOIN told t ON t.step_run_id = s.id",
    run_id="s.run_id",
    step_run_id="s.id",
    facts={
        "step": "s.key",
        "state": "s.state",
        "attempt": "s.attempt",
        "failures": "s.failures",
        "crashes": "s.crashes",
        "started": "COALESCE(t.started, 0)",
        "succeeded": "COALESCE(t.succeeded, 0)",
        "retried": "COALESCE(t.retried, 0)",
        "ended": "COALESCE(t.succeeded + t.dead + t.cancelled, 0)",
        "dead": "COALESCE(t.dead, 0)",
        "requeued": "COALESCE(t.requeued, 0)",
    },
    checks=(
        Check(
            name="success_is_told_once",
            invariant="I3",
            broken="COALESCE(t.succeeded, 0) <> (s.state = 'succeeded')::int",
            says="is {state}; its history has {succeeded} successes",
            remedy=UNSURE,
        ),
        Check(
            name="attempts_are_told",
            invariant="I7",
            broken="COALESCE(t.started, 0) <> s.attempt",
            says="counts {attempt} attempts, its history {started}",
            remedy=UNSURE,
        ),
        Check(
            name="attempts_follow_failures",
            invariant="I7",
            broken="t.started > t.retried + t.succeeded + t.dead + t.cancelled"
            " + t.asked + (s.state = 'running')::int",
            says="was started {started} times, more often than it failed, crashed or ended",
            remedy=UNSURE,
        ),
        Check(
            name="failures_are_told",
            invariant="I7",
            broken="s.failures + s.crashes > COALESCE(t.retried + t.dead, 0)",
            says="has {failures} failures and {crashes} crashes;"
            " its history {retried} retries and {dead} deaths",
            remedy=UNSURE,
        ),
        Check(
            name="step_ends_once",
            invariant="I9",
            broken="COALESCE(t.succeeded + t.dead + t.cancelled - t.requeued, 0)"
            " <> (s.state IN ('succeeded', 'dead', 'cancelled'))::int",
            says="is {state}; its history has {ended} ends and {requeued} requeues",
            remedy=UNSURE,
        ),
        Check(
            name="step_stays_as_it_ended",
            invariant="I9",
            broken="(s.state IN ('succeeded', 'dead', 'cancelled') AND t.moved_at > t.ended_at)"
            " OR (s.state = 'succeeded' AND t.ended_at > t.succeeded_at)"
            " OR (s.state = 'dead' AND t.ended_at > COALESCE(t.dead_at, 0))"
            " OR (s.state = 'cancelled' AND t.ended_at > COALESCE(t.cancelled_at, 0))",
            says="is {state}; the last thing its history tells is something else",
            remedy=UNSURE,
        ),
    ),
)

RUNS = Survey(
    name="run_histories",
    before="""
        told AS (
            SELECT run_id, count(*) FILTER (WHERE kind = 'run.submitted') AS submitted,
                count(*) FILTER (WHERE kind = 'run.requeued') AS requeued,
                count(*) FILTER (WHERE kind IN ('run.succeeded', 'run.failed', 'run.cancelled',
                    'run.timed_out')) AS ended,
                (array_agg(kind ORDER BY id DESC) FILTER (WHERE kind IN ('run.succeeded',
                    'run.failed', 'run.cancelled', 'run.timed_out')))[1] AS last
            FROM engine_runevent WHERE step_run_id IS NULL GROUP BY run_id)""",
    source="FROM engine_run r LEFT JOIN told t ON t.run_id = r.id",
    run_id="r.id",
    facts={
        "state": "r.state",
        "generation": "r.generation",
        "submitted": "COALESCE(t.submitted, 0)",
        "requeued": "COALESCE(t.requeued, 0)",
        "ended": "COALESCE(t.ended, 0)",
        "last": "COALESCE(t.last, 'nothing')",
    },
    checks=(
        Check(
            name="submission_is_told",
            invariant="I1",
            broken="COALESCE(t.submitted, 0) <> 1",
            says="was submitted {submitted} times by its history",
            remedy=UNSURE,
        ),
        Check(
            name="generations_are_told",
            invariant="I9",
            broken="r.generation <> 1 + COALESCE(t.requeued, 0)",
            says="is in generation {generation}; its history has {requeued} requeues",
            remedy=UNSURE,
        ),
        Check(
            name="run_ends_once",
            invariant="I9",
            broken="COALESCE(t.ended, 0) > COALESCE(t.requeued, 0)"
            " + (r.state IN ('succeeded', 'failed', 'cancelled', 'timed_out'))::int",
            says="is {state}; its history has {ended} ends and {requeued} requeues",
            remedy=UNSURE,
        ),
        Check(
            name="run_stays_as_it_ended",
            invariant="I9",
            broken="r.state IN ('succeeded', 'failed', 'cancelled', 'timed_out')"
            " AND t.last IS DISTINCT FROM 'run.' || r.state",
            says="is {state}; the last end its history tells is {last}",
            remedy=UNSURE,
        ),
    ),
)

CANCELS = Survey(
    name="cancels",
    before="""
        asked AS (SELECT run_id, min(id) AS id, min(at) AS at FROM engine_runevent
            WHERE kind = 'run.cancel_requested' GROUP BY run_id)""",
    source="""
        FROM asked a JOIN engine_runevent e ON e.run_id = a.run_id AND e.id > a.id
        WHERE e.kind = 'step.started'""",
    run_id="e.run_id",
    step_run_id="e.step_run_id",
    facts={"worker": "e.actor", "at": "e.at", "asked": "a.at"},
    checks=(
        Check(
            name="no_claim_after_cancel",
            invariant="I10",
            broken=f"e.at > a.at + interval '{RACE_SECONDS} seconds'",
            says="was started by {worker} at {at}, after the cancel at {asked}",
            remedy="Find out what it did outside the platform; report it.",
        ),
    ),
)

EFFECTS = Survey(
    name="effects",
    before="""
        doubled AS (SELECT key FROM engine_effect GROUP BY key HAVING count(*) > 1)""",
    source="""
        FROM engine_effect e JOIN engine_steprun s ON s.id = e.step_run_id
        LEFT JOIN doubled d ON d.key = e.key""",
    run_id="e.run_id",
    step_run_id="e.step_run_id",
    facts={"name": "e.name", "key": "e.key", "effect": "e.id"},
    checks=(
        Check(
            name="effect_key_is_stable",
            invariant="I7",
            broken="e.key <> s.run_id || ':' || s.key || ':' || s.map_index || ':' || e.name"
            " OR e.run_id <> s.run_id",
            says="effect {effect} ({name}) has the key {key}, which is not its step's",
            remedy="The other system may have been called twice under two keys: ask it.",
        ),
        Check(
            name="effect_key_is_single",
            invariant="I7",
            broken="d.key IS NOT NULL",
            says="effect {effect} ({name}) shares the key {key} with another one",
            remedy="The other system may have dropped one of the calls: ask it.",
        ),
    ),
)
