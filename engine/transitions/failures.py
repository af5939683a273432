"""How a held step ends other than well: retry, dead letter, crash, cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import sql
from engine.transitions import told
from engine.transitions.effects import DOUBT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

# Only with the row it ends (a step that a cancel overtook is still held, until CANCEL ends it), and
# only when its holder has nothing else under the claim.
_RELEASED = """released AS (
    DELETE FROM engine_lease l USING {ended} WHERE l.claim = %(claim)s AND %(last)s)"""

RETRY = f"""
WITH failed AS (
    UPDATE engine_steprun
    SET state = 'retry_wait', claim = NULL, failures = failures + %(failures)s,
        crashes = crashes + %(crashes)s, dispatches = 0,
        error_code = %(code)s, error_message = %(message)s,
        next_at = clock_timestamp() + make_interval(secs => %(delay)s)
    WHERE id = %(id)s AND state || '' = 'running' AND claim = %(claim)s AND NOT cancel_requested
    RETURNING id, run_id, attempt, worker, next_at),
{_RELEASED.format(ended="failed")}
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.retried', attempt, worker,
    jsonb_build_object('error_code', %(code)s::text, 'error_message', %(message)s::text,
        'next_at', next_at), clock_timestamp()
FROM failed
"""

# The dead letter is the truth; its two outbox rows are told to automation.dlq (and the queue
# dead_letter) and to automation.events. A run that was paused stays so and blocks on resume.
BURY = f"""
WITH dead AS (
    UPDATE engine_steprun
    SET state = 'dead', claim = NULL, failures = failures + %(failures)s,
        crashes = crashes + %(crashes)s, finished_at = clock_timestamp(),
        error_code = %(code)s, error_message = %(message)s
    WHERE id = %(id)s AND state || '' = 'running' AND claim = %(claim)s AND NOT cancel_requested
    RETURNING id, run_id, key, map_index, lane, attempt, crashes, worker, state),
{_RELEASED.format(ended="dead")},
{DOUBT.format(ended="dead")},
letter AS (
    INSERT INTO engine_deadletter (run_id, step_run_id, department, automation, step, map_index,
        state, error_code, error_message, attempts, crashes, created_at, resolved_by)
    SELECT d.run_id, d.id, d.lane, r.automation, d.key, d.map_index, 'open', %(code)s, %(message)s,
        d.attempt, d.crashes, clock_timestamp(), ''
    FROM dead d JOIN engine_run r ON r.id = d.run_id
    RETURNING id, run_id, department, automation, step, map_index, error_code, error_message),
stopped AS (
    UPDATE engine_run r
    SET state = CASE WHEN %(fail_run)s THEN 'cancelling'
            WHEN r.state = 'running' THEN 'blocked' ELSE r.state END,
        ending = CASE WHEN %(fail_run)s THEN 'failed' ELSE r.ending END,
        error_code = %(code)s,
        error_message = left('Step ' || dead.key || ': ' || %(message)s::text, 2000)
    FROM dead WHERE r.id = dead.run_id AND r.state IN ('pending', 'running', 'blocked', 'paused')
    RETURNING {told.OF_RUN}),
told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.dlq', 'dead_letter.created', run_id, jsonb_build_object(
        'dead_letter_id', id, 'department', department, 'automation', automation, 'step', step,
        'map_index', map_index, 'error_code', error_code, 'error_message', error_message),
        clock_timestamp() FROM letter
    UNION ALL
    SELECT 'automation.events', 'run.status.updated', id,
        jsonb_build_object({told.words("stopped")}), clock_timestamp() FROM stopped)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.dead', attempt, worker, jsonb_build_object(
    'error_code', %(code)s::text, 'error_message', %(message)s::text), clock_timestamp() FROM dead
"""

CANCEL = f"""
WITH ended AS (
    UPDATE engine_steprun s
    SET state = 'cancelled', claim = NULL, finished_at = clock_timestamp(),
        error_code = CASE WHEN r.ending = 'failed' THEN 'upstream_dead' ELSE 'cancelled' END,
        error_message = %(message)s
    FROM engine_run r
    WHERE s.id = %(id)s AND s.state || '' = 'running' AND s.claim = %(claim)s AND s.cancel_requested
      AND r.id = s.run_id
    RETURNING s.id, s.run_id, s.attempt, s.worker, s.state),
{_RELEASED.format(ended="ended")},
{DOUBT.format(ended="ended")}
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.cancelled', attempt, worker,
    jsonb_build_object('reason', %(message)s::text), clock_timestamp()
FROM ended
"""

# A claim that ended without an outcome: its lease is gone first, so that a late renewal of the
# worker finds nothing and knows that it is fenced. Only a renewal sets both moments to the same;
# the grace after an outage goes beyond the deadline and says nothing of a holder that was lost.
EXPIRE = """
DELETE FROM engine_lease WHERE claim = %(claim)s AND expires_at < clock_timestamp()
RETURNING step_run_ids, deadline_at, COALESCE(deadline_at = expires_at, false) AS overran
"""
UNLEASE = "DELETE FROM engine_lease WHERE claim = %(claim)s RETURNING step_run_ids"

UNSTARTED = """
WITH mine AS (
    SELECT s.id FROM engine_steprun s
    WHERE {which} s.claim = %(claim)s AND s.state = 'queued'
    ORDER BY s.id DESC FOR NO KEY UPDATE),
back AS (
    UPDATE engine_steprun s
    SET state = 'ready', claim = NULL, ready_at = clock_timestamp(), dispatches = 0,
        alone = s.alone OR %(alone)s
    FROM mine m WHERE s.id = m.id
    RETURNING s.id, s.run_id, s.attempt)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.released', attempt, '', '{{"reason": "worker_lost"}}', clock_timestamp()
FROM back
"""
RUNNING = """
SELECT s.id, s.claim, s.run_id, s.key, s.map_index, s.kind, s.lane, s.attempt, s.worker,
    s.crashes, s.failures, s.cancel_requested, s.started_at, r.version_id, r.automation,
    r.department, r.correlation_id, r.traceparent,
    extract(epoch FROM clock_timestamp() - s.started_at)::float8 AS ran_seconds
FROM engine_steprun s JOIN engine_run r ON r.id = s.run_id
WHERE {which} s.claim = %(claim)s AND s.state = 'running'
ORDER BY s.id DESC FOR NO KEY UPDATE OF s
"""


def retry(
    *,
    step_run_id: int,
    claim: UUID,
    code: str,
    message: str,
    delay_seconds: float,
    failures: int = 1,
    crashes: int = 0,
    last: bool = True,
) -> bool:
    """Send a held step into its backoff. False: the claim is lost or a cancel came first.

    last: nothing else is held under the claim, which ends with this.
    """
    values = {
        "id": step_run_id,
        "claim": claim,
        "code": code,
        "message": message,
        "delay": delay_seconds,
        "failures": failures,
        "crashes": crashes,
        "last": last,
    }
    return sql.count(RETRY, values) == 1


def bury(
    *,
    step_run_id: int,
    claim: UUID,
    code: str,
    message: str,
    fail_run: bool,
    failures: int = 1,
    crashes: int = 0,
    last: bool = True,
) -> bool:
    """End a held step as dead, with its DeadLetter; block its run, or begin to end it as failed.

    False: the claim is lost or a cancel came first.
    """
    values = {
        "id": step_run_id,
        "claim": claim,
        "code": code,
        "message": message,
        "fail_run": fail_run,
        "failures": failures,
        "crashes": crashes,
        "last": last,
    }
    return sql.count(BURY, values) == 1


def cancel(*, step_run_id: int, claim: UUID, reason: str, last: bool = True) -> bool:
    """End a held step of which a cancel is wanted. False: the claim is lost, or none is wanted."""
    values = {"id": step_run_id, "claim": claim, "message": reason, "last": last}
    return sql.count(CANCEL, values) == 1


def expire_lease(*, claim: UUID) -> Any | None:
    """Take an expired lease. None: it was renewed in the meantime.

    `overran`: it was renewed up to its deadline, so that its holder is not silent but late.
    """
    found = sql.rows(EXPIRE, {"claim": claim})
    return found[0] if found else None


def drop_lease(*, claim: UUID) -> Any | None:
    """Take the lease of a holder known to be dead; None when there is none."""
    found = sql.rows(UNLEASE, {"claim": claim})
    return found[0] if found else None


def release_unstarted(*, claim: UUID, step_run_ids: Sequence[int] | None, alone: bool) -> int:
    """Give back the members of a lost claim that are not known to have begun.

    step_run_ids: where to look, None for everywhere. alone: each is claimed by itself from now on.
    """
    statement = UNSTARTED.format(which=_among(step_run_ids))
    return sql.count(statement, {"claim": claim, "ids": step_run_ids, "alone": alone})


def running_of(*, claim: UUID, step_run_ids: Sequence[int] | None) -> list[Any]:
    """Return the running rows under the claim, highest id first, locked for their end."""
    statement = RUNNING.format(which=_among(step_run_ids))
    return sql.rows(statement, {"claim": claim, "ids": step_run_ids})


def _among(step_run_ids: Sequence[int] | None) -> str:
    """Return the condition that spares the search; without ids the rows in flight are read.

    What a holder has gone on with is of the runs that its claim began with.
    """
    if step_run_ids is None:
        return "s.state IN ('queued', 'running') AND"
    return """s.run_id IN (SELECT m.run_id FROM engine_steprun m WHERE m.id = ANY(%(ids)s))
        AND s.state IN ('queued', 'running') AND"""
