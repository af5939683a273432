"""The moves of a run as a whole. Two short transactions where one would hold locks crosswise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from psycopg.errors import UniqueViolation

from engine import sql
from engine.publishing import ReadyStep
from engine.transitions import told
from engine.transitions.claims import LANE_IS_FREE
from engine.transitions.effects import DOUBT

if TYPE_CHECKING:
    from uuid import UUID

# Run, plan, event: one statement, so that accepted = planned = durable. The version is looked up:
# the number this process remembers may be another's, or nobody's, in a database that was restored
# under it. Rows come with sinks first: ids fall along the graph (see StepRun). Roots that are not
# `queued` are not published: the dispatcher sends them, on credit or when the backlog of their
# queue has come that far.
SUBMIT = f"""
WITH run AS (
    INSERT INTO engine_run (id, automation, department, version_id, state, ending, pending,
        generation, input, error_code, error_message, dedupe_key, correlation_id, traceparent,
        priority, tags, trigger, created_by, deadline_at, created_at)
    SELECT %(id)s, v.automation, %(department)s, v.id, 'pending', '', %(sinks)s,
        1, %(input)s, '', '', %(dedupe_key)s, %(correlation_id)s, %(traceparent)s, %(priority)s,
        %(tags)s, %(trigger)s, %(created_by)s, %(deadline_at)s::timestamptz, clock_timestamp()
    FROM engine_automationversion v
    WHERE v.id = %(version)s AND v.automation = %(automation)s AND v.checksum = %(checksum)s
    ON CONFLICT (automation, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
    RETURNING id, department AS lane),
steps AS (
    INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending,
        priority, ready_at, dispatched_at, dispatches, attempt, failures, crashes, worker,
        cancel_requested, error_code, error_message)
    SELECT run.id, t.key, -1, t.kind, run.lane, t.queue,
        CASE WHEN t.pending > 0 THEN 'waiting'
            WHEN t.queue <> ALL(%(backed_up)s::text[]) AND {LANE_IS_FREE.format(row="run")}
            THEN 'queued' ELSE 'ready' END,
        t.pending, %(priority)s,
        CASE WHEN t.pending = 0 THEN clock_timestamp() END,
        CASE WHEN t.pending = 0 THEN clock_timestamp() END,
        0, 0, 0, 0, '', false, '', ''
    FROM run, unnest(%(keys)s::text[], %(kinds)s::text[], %(queues)s::text[], %(pendings)s::int[])
        WITH ORDINALITY AS t(key, kind, queue, pending, n)
    ORDER BY t.n
    RETURNING id, queue, state),
noted AS (
    INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
    SELECT id, NULL, 'run.submitted', NULL, %(created_by)s,
        jsonb_build_object('trigger', %(trigger)s::text), clock_timestamp() FROM run)
SELECT run.id AS run_id, s.id AS next_id, s.queue AS next_queue
FROM run LEFT JOIN steps s ON s.state = 'queued'
"""

# The one who has waited for this row's lock finds the key gone, and at the next try the run that
# has it now: of many requests one starts a run.
RELEASE_KEY = """
UPDATE engine_run
SET dedupe_key = NULL, released_key = dedupe_key, released_at_end = %(until_terminal)s
WHERE automation = %(automation)s AND dedupe_key = %(key)s
  AND (%(until_terminal)s AND state IN ('succeeded', 'failed', 'cancelled', 'timed_out')
    OR created_at <= clock_timestamp() - make_interval(secs => %(window)s))
"""

# The way back, for a run that is to live again: from a later one that has ended too.
HAND_OVER_KEY = """
UPDATE engine_run later
SET dedupe_key = NULL, released_key = later.dedupe_key, released_at_end = true
FROM engine_run r
WHERE r.id = %(run)s AND r.released_at_end
  AND later.automation = r.automation AND later.dedupe_key = r.released_key
  AND later.state IN ('succeeded', 'failed', 'cancelled', 'timed_out')
"""
TAKE_KEY_BACK = """
UPDATE engine_run SET dedupe_key = released_key, released_key = '', released_at_end = false
WHERE id = %(run)s AND released_at_end
"""

PAUSE = """
UPDATE engine_run SET state = 'paused'
WHERE id = %(run)s AND state IN ('pending', 'running', 'blocked')
"""
# Held until the transaction ends, so that the next statement sees what others did to its steps.
LOCK = "SELECT state FROM engine_run WHERE id = %(run)s FOR NO KEY UPDATE"
RESUME = """
UPDATE engine_run r
SET state = CASE WHEN EXISTS (SELECT 1 FROM engine_steprun s
                              WHERE s.run_id = r.id AND s.state = 'dead') THEN 'blocked'
    WHEN r.started_at IS NULL THEN 'pending' ELSE 'running' END
WHERE r.id = %(run)s AND r.state = 'paused'
"""
BEGIN_ENDING = """
UPDATE engine_run
SET state = 'cancelling', ending = %(ending)s, error_code = %(code)s, error_message = %(message)s
WHERE id = %(run)s AND state IN ('pending', 'running', 'paused', 'blocked')
"""
# Sets the flag on every row first, whatever its state: a claim that raced this waits for the row's
# lock, reads it again and finds the flag (I10). Then ends what nobody holds. Who was asked is not
# asked again: the manager repeats this four times a second until the run has ended.
SWEEP = f"""
WITH mine AS (
    SELECT s.id FROM engine_steprun s
    WHERE s.run_id = %(run)s
      AND s.state NOT IN ('succeeded', 'failed', 'dead', 'cancelled', 'skipped')
      AND NOT (s.cancel_requested AND s.claim IS NOT NULL)
    ORDER BY s.id DESC FOR NO KEY UPDATE),
swept AS (
    UPDATE engine_steprun s
    SET cancel_requested = true,
        state = CASE WHEN s.state = 'running' OR s.claim IS NOT NULL THEN s.state
            ELSE 'cancelled' END,
        finished_at = CASE WHEN s.state = 'running' OR s.claim IS NOT NULL THEN NULL
            ELSE clock_timestamp() END,
        error_code = CASE WHEN s.state = 'running' OR s.claim IS NOT NULL THEN s.error_code
            WHEN r.ending = 'failed' THEN 'upstream_dead' ELSE r.ending END
    FROM mine, engine_run r
    WHERE s.id = mine.id AND r.id = s.run_id AND r.state = 'cancelling'
    RETURNING s.id, s.run_id, s.attempt, s.state, s.error_code),
{DOUBT.format(ended="swept")}
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.cancelled', attempt, '', jsonb_build_object('reason', error_code),
    clock_timestamp()
FROM swept WHERE state = 'cancelled'
"""
END = f"""
WITH ended AS (
    UPDATE engine_run r SET state = r.ending, finished_at = clock_timestamp()
    WHERE r.id = %(run)s AND r.state = 'cancelling' AND NOT EXISTS (
        SELECT 1 FROM engine_steprun s WHERE s.run_id = r.id
          AND s.state NOT IN ('succeeded', 'failed', 'dead', 'cancelled', 'skipped'))
    RETURNING {told.OF_RUN}),
told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.events',
        CASE WHEN state = 'cancelled' THEN 'run.cancelled' ELSE 'run.failed' END, id,
        jsonb_build_object({told.words("ended")}), clock_timestamp()
    FROM ended)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT id, NULL, 'run.' || state, NULL, '', '{{}}'::jsonb, clock_timestamp() FROM ended
"""
NOTE = f"""
WITH told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.events', 'run.status.updated', id,
        jsonb_build_object({told.words("r")}), clock_timestamp()
    FROM engine_run r WHERE id = %(run)s)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
VALUES (%(run)s, NULL, %(kind)s, NULL, %(actor)s, %(data)s, clock_timestamp())
"""


def submit(*, values: dict[str, Any]) -> list[ReadyStep] | None:
    """Insert a run with its whole static plan; None when it has no version, or its key a run."""
    found = sql.rows(SUBMIT, values)
    if not found:
        return None
    return [ReadyStep(row.next_id, row.next_queue) for row in found if row.next_id is not None]


def release_key(*, automation: str, key: str, window: float | None, until_terminal: bool) -> bool:
    """Take a business key from a run that is older than `window` seconds, or has ended."""
    values = {
        "automation": automation,
        "key": key,
        "window": window,
        "until_terminal": until_terminal,
    }
    return sql.count(RELEASE_KEY, values) == 1


def take_key_back(*, run_id: UUID) -> bool:
    """Give a run that had ended its business key again; False while a later run lives under it.

    Call it in a transaction that holds the run's row.
    """
    sql.count(HAND_OVER_KEY, {"run": run_id})
    try:
        with transaction.atomic():
            sql.count(TAKE_KEY_BACK, {"run": run_id})
    except UniqueViolation:
        return False
    return True


def pause(*, run_id: UUID) -> bool:
    """Hold a run: nothing of it is sent or claimed until it is resumed."""
    return sql.count(PAUSE, {"run": run_id}) == 1


def resume(*, run_id: UUID) -> bool:
    """Let a paused run go on where it was; call it in a transaction."""
    # A step may be dying just now: only behind its lock is it known whether the run is blocked.
    sql.rows(LOCK, {"run": run_id})
    return sql.count(RESUME, {"run": run_id}) == 1


def lock(*, run_id: UUID) -> str:
    """Return the run's state, held until the transaction ends; after the locks of its steps."""
    found: str = sql.rows(LOCK, {"run": run_id})[0].state
    return found


def begin_ending(*, run_id: UUID, ending: str, code: str = "", message: str = "") -> bool:
    """Turn a run towards its end; from now on nothing can be added to it."""
    values = {"run": run_id, "ending": ending, "code": code, "message": message}
    return sql.count(BEGIN_ENDING, values) == 1


def sweep(*, run_id: UUID) -> int:
    """Ask every step of an ending run to stop and end those that nobody holds."""
    return sql.count(SWEEP, {"run": run_id})


def end(*, run_id: UUID) -> bool:
    """End an ending run of which no step is open any more."""
    return sql.count(END, {"run": run_id}) == 1


def note(*, run_id: UUID, kind: str, actor: str, **data: Any) -> None:
    """Write an operator's act into the history and tell the new status."""
    sql.count(NOTE, {"run": run_id, "kind": kind, "actor": actor, "data": sql.jsonb(data)})
