"""An operator's way back from a dead letter: a new generation that keeps every good result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import sql

if TYPE_CHECKING:
    from uuid import UUID

LOCK_LETTER = """
SELECT d.id, d.run_id, d.step_run_id, d.state, d.step, d.automation, d.department, r.traceparent,
    r.state AS run_state
FROM engine_deadletter d JOIN engine_run r ON r.id = d.run_id
WHERE d.id = %(letter)s FOR NO KEY UPDATE OF d
"""
# In the order in which their steps are locked.
LOCK_LETTERS_OF_RUN = """
SELECT d.id, d.run_id, d.step_run_id, d.state, d.step, d.automation, d.department, r.traceparent,
    r.state AS run_state
FROM engine_deadletter d JOIN engine_run r ON r.id = d.run_id
WHERE d.run_id = %(run)s AND d.state = 'open'
ORDER BY d.step_run_id DESC FOR NO KEY UPDATE OF d
"""
RESOLVE = """
UPDATE engine_deadletter
SET state = %(state)s, resolved_at = clock_timestamp(), resolved_by = %(actor)s
WHERE id = %(letter)s AND state = 'open'
"""
# `pending` stayed true while the step was dead or cancelled, so it decides where a row goes. When
# another letter of the run is still open, what waits behind that one stays waiting by itself.
REVIVE = """
WITH mine AS (
    SELECT id FROM engine_steprun
    WHERE run_id = %(run)s AND ((id = %(step)s AND state = 'dead')
        OR (%(failed)s AND state = 'cancelled' AND error_code = 'upstream_dead'))
    ORDER BY id DESC FOR NO KEY UPDATE),
back AS (
    UPDATE engine_steprun s
    SET state = CASE WHEN s.pending = 0 THEN 'ready' ELSE 'waiting' END,
        ready_at = CASE WHEN s.pending = 0 THEN clock_timestamp() END,
        finished_at = NULL, claim = NULL, next_at = NULL, cancel_requested = false,
        failures = 0, crashes = 0, dispatches = 0, error_code = '', error_message = ''
    FROM mine WHERE s.id = mine.id
    RETURNING s.id, s.run_id, s.attempt)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.requeued', attempt, %(actor)s, '{}'::jsonb, clock_timestamp() FROM back
"""
REOPEN = """
UPDATE engine_run r
SET state = CASE WHEN r.state = 'paused' THEN 'paused'
        WHEN EXISTS (SELECT 1 FROM engine_steprun s
                     WHERE s.run_id = r.id AND s.state = 'dead') THEN 'blocked'
        ELSE 'running' END,
    -- A deadline that has passed would end the new generation at once: the operator's word counts.
    deadline_at = CASE WHEN r.deadline_at > clock_timestamp() THEN r.deadline_at END,
    ending = '', finished_at = NULL, generation = r.generation + 1,
    error_code = '', error_message = ''
WHERE r.id = %(run)s AND r.state IN ('blocked', 'failed', 'paused', 'running')
"""
# A dead step without an open letter was given up: the run can never succeed any more.
GIVEN_UP = """
SELECT s.key FROM engine_steprun s
WHERE s.run_id = %(run)s AND s.state = 'dead' AND NOT EXISTS (
    SELECT 1 FROM engine_deadletter d WHERE d.step_run_id = s.id AND d.state = 'open')
LIMIT 1
"""


def lock_letter(*, dead_letter_id: int) -> Any | None:
    """Return the dead letter with its run's state, held until the transaction ends."""
    found = sql.rows(LOCK_LETTER, {"letter": dead_letter_id})
    return found[0] if found else None


def lock_letters(*, run_id: UUID) -> list[Any]:
    """Return the open dead letters of a run likewise."""
    return sql.rows(LOCK_LETTERS_OF_RUN, {"run": run_id})


def resolve(*, dead_letter_id: int, state: str, actor: str) -> bool:
    """Close an open dead letter as requeued or discarded."""
    values = {"letter": dead_letter_id, "state": state, "actor": actor}
    return sql.count(RESOLVE, values) == 1


def revive(*, run_id: UUID, step_run_id: int, failed: bool, actor: str) -> int:
    """Make the dead step claimable again and, of a failed run, restore what it had cancelled."""
    values = {"run": run_id, "step": step_run_id, "failed": failed, "actor": actor}
    return sql.count(REVIVE, values)


def given_up(*, run_id: UUID) -> str | None:
    """Return a step of the run whose dead letter was discarded, if there is one."""
    found = sql.rows(GIVEN_UP, {"run": run_id})
    return found[0].key if found else None


def reopen(*, run_id: UUID) -> bool:
    """Let the run go on as a new generation."""
    return sql.count(REOPEN, {"run": run_id}) == 1
