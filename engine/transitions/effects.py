"""The moves of an effect, and of the step that waits for an answer about one.

Whoever locks both rows takes the step's first. A call begun by attempt n is written with n and
waits for the disk: the claim that gave n out is older in the log, so no crash of PostgreSQL gives
it out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import sql
from engine.errors import CancelledError, ClaimLostError
from engine.transitions import told

if TYPE_CHECKING:
    from engine.transitions.claims import Claimed

#: The error code of a step that waits for an operator's word about an effect.
EFFECT_UNKNOWN = "effect_unknown"

# A conflict is decided on the newest version of the row, whatever this statement's snapshot says.
_AGAIN = "e.state = 'planned' OR (e.state = 'sent' AND excluded.idempotent)"
BEGIN = f"""
WITH held AS (
    SELECT id, run_id, attempt, cancel_requested FROM engine_steprun
    WHERE id = %(id)s AND claim = %(claim)s AND state || '' = 'running' FOR NO KEY UPDATE),
begun AS (
    INSERT INTO engine_effect AS e (run_id, step_run_id, name, key, state, idempotent, attempt,
        error_code, planned_at, sent_at, resolved_by)
    SELECT run_id, id, %(name)s, %(key)s, 'sent', %(idempotent)s, attempt, '', clock_timestamp(),
        clock_timestamp(), ''
    FROM held WHERE NOT cancel_requested
    ON CONFLICT (step_run_id, name) DO UPDATE SET
        state = CASE WHEN {_AGAIN} THEN 'sent' ELSE e.state END,
        attempt = CASE WHEN {_AGAIN} THEN excluded.attempt ELSE e.attempt END,
        sent_at = CASE WHEN {_AGAIN} THEN excluded.sent_at ELSE e.sent_at END,
        error_code = CASE WHEN {_AGAIN} THEN '' ELSE e.error_code END,
        resolved_at = CASE WHEN {_AGAIN} THEN NULL ELSE e.resolved_at END,
        resolved_by = CASE WHEN {_AGAIN} THEN '' ELSE e.resolved_by END,
        idempotent = excluded.idempotent
    RETURNING e.id, e.state, e.attempt, e.receipt, e.error_code)
SELECT h.cancel_requested, b.* FROM held h LEFT JOIN begun b ON true
"""

# Doubt is noted also of a step that is to be cancelled; only that one does not wait.
ASK = f"""
WITH held AS (
    SELECT id, cancel_requested FROM engine_steprun
    WHERE id = %(id)s AND claim = %(claim)s AND state || '' = 'running' FOR NO KEY UPDATE),
doubted AS (
    UPDATE engine_effect e
    SET state = 'unknown',
        error_code = CASE WHEN e.state = 'sent' THEN %(code)s ELSE e.error_code END
    FROM held WHERE e.id = %(effect)s AND e.state IN ('sent', 'unknown')
    RETURNING e.id, e.name, e.key),
waiting AS (
    UPDATE engine_steprun s
    SET state = 'awaiting', claim = NULL, dispatches = 0, error_code = %(reason)s,
        error_message = %(message)s
    FROM held h, doubted WHERE s.id = h.id AND NOT h.cancel_requested
    RETURNING s.id, s.run_id, s.key, s.attempt, s.worker),
released AS (DELETE FROM engine_lease l USING waiting WHERE l.claim = %(claim)s),
told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.events', 'run.status.updated', r.id, jsonb_build_object(
        {told.words("r")}, 'awaiting', w.key,
        'reason', %(reason)s::text, 'effect_id', d.id), clock_timestamp()
    FROM waiting w JOIN engine_run r ON r.id = w.run_id CROSS JOIN doubted d),
noted AS (
    INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
    SELECT w.run_id, w.id, 'step.awaiting', w.attempt, w.worker, jsonb_build_object(
        'error_code', %(reason)s::text, 'error_message', %(message)s::text, 'effect_id', d.id,
        'effect', d.name, 'effect_key', d.key), clock_timestamp()
    FROM waiting w CROSS JOIN doubted d)
SELECT h.cancel_requested, w.id AS waiting FROM held h LEFT JOIN waiting w ON true
"""

# A step ends in the middle of a call: no attempt will come that asks. Where doubles are dropped by
# key nothing is in doubt; a requeued step calls again. `{ended}` are the steps, held.
DOUBT = """doubted AS (
    UPDATE engine_effect e SET state = 'unknown', error_code = 'attempt_lost'
    FROM {ended} s
    WHERE e.step_run_id = s.id AND s.state IN ('dead', 'cancelled')
      AND e.state = 'sent' AND NOT e.idempotent)"""

LOCK_STEP = """
SELECT s.id, s.state, s.claim FROM engine_steprun s
WHERE s.id = (SELECT step_run_id FROM engine_effect WHERE id = %(effect)s) FOR NO KEY UPDATE
"""
LOCK = """
SELECT e.state, e.run_id, r.state AS run_state
FROM engine_effect e JOIN engine_run r ON r.id = e.run_id
WHERE e.id = %(effect)s FOR NO KEY UPDATE OF e
"""
# What a call answered is true, however late it is said: it counts until somebody has begun the call
# anew (another attempt stands in the row) or an operator has confirmed it.
ANSWER = """
UPDATE engine_effect
SET state = %(state)s::text, receipt = %(receipt)s, error_code = %(code)s, resolved_by = '',
    resolved_at = CASE WHEN %(state)s::text = 'confirmed' THEN clock_timestamp() END
WHERE id = %(effect)s AND attempt = %(attempt)s AND state <> 'confirmed'
RETURNING receipt
"""
RESOLVE = f"""
WITH resolved AS (
    UPDATE engine_effect
    SET state = %(state)s, receipt = %(receipt)s, error_code = '', resolved_by = %(actor)s,
        resolved_at = clock_timestamp()
    WHERE id = %(effect)s AND state = 'unknown'
    RETURNING id, run_id, step_run_id, name, attempt),
told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.events', 'run.status.updated', r.id, jsonb_build_object(
        {told.words("r")}), clock_timestamp()
    FROM resolved e JOIN engine_run r ON r.id = e.run_id)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, step_run_id, %(kind)s, attempt, %(actor)s,
    jsonb_build_object('effect_id', id, 'effect', name), clock_timestamp()
FROM resolved
"""
GO_ON = """
WITH back AS (
    UPDATE engine_steprun
    SET state = 'ready', ready_at = clock_timestamp(), dispatches = 0, error_code = '',
        error_message = ''
    WHERE id = %(id)s AND state = 'awaiting' AND error_code = %(reason)s
    RETURNING id, run_id, attempt)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.released', attempt, %(actor)s,
    jsonb_build_object('reason', 'effect_resolved', 'effect_id', %(effect)s::bigint),
    clock_timestamp()
FROM back
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """How an effect stands when a step comes to it."""

    id: int
    state: str
    attempt: int
    receipt: Any
    error_code: str


def begin(*, step: Claimed, name: str, key: str, idempotent: bool) -> Begun:
    """Write `sent` if the call may be made now, and return the row as it stands.

    `sent` with the step's own attempt: call. Asked again by the same attempt it answers the same.
    Raises ClaimLostError, or CancelledError when a cancel is wanted; nothing was written then.
    """
    values = {
        "id": step.id,
        "claim": step.claim,
        "name": name,
        "key": key,
        "idempotent": idempotent,
    }
    found = sql.rows(BEGIN, values)
    if not found:
        raise ClaimLostError
    (row,) = found
    if row.cancel_requested:
        raise CancelledError
    return Begun(
        id=row.id,
        state=row.state,
        attempt=row.attempt,
        receipt=sql.parsed(row.receipt),
        error_code=row.error_code,
    )


def ask(*, step: Claimed, effect_id: int, code: str, message: str) -> bool:
    """Let a held step wait for an operator's word about its effect, which becomes `unknown`.

    False: the effect was answered meanwhile, the step goes on. Raises ClaimLostError, or
    CancelledError when a cancel is wanted; the doubt is noted all the same then.
    """
    values = {
        "id": step.id,
        "claim": step.claim,
        "effect": effect_id,
        "code": code,
        "reason": EFFECT_UNKNOWN,
        "message": message,
    }
    found = sql.rows(ASK, values)
    if not found:
        raise ClaimLostError
    if found[0].cancel_requested:
        raise CancelledError
    return found[0].waiting is not None


def lock_step(*, effect_id: int) -> Any | None:
    """Return the effect's step as it is now, held until the transaction ends; before any other."""
    found = sql.rows(LOCK_STEP, {"effect": effect_id})
    return found[0] if found else None


def lock(*, effect_id: int) -> Any:
    """Return the effect with its run's state, held until the transaction ends."""
    return sql.rows(LOCK, {"effect": effect_id})[0]


def answer(
    *, effect_id: int, attempt: int, state: str, receipt: Any = None, code: str = ""
) -> list[Any]:
    """Write what a call came to, as [receipt as stored]; [] when others have decided meanwhile."""
    values = {
        "effect": effect_id,
        "attempt": attempt,
        "state": state,
        "receipt": None if receipt is None else sql.jsonb(receipt),
        "code": code,
    }
    return [sql.parsed(row.receipt) for row in sql.rows(ANSWER, values)]


def resolve(*, effect_id: int, state: str, receipt: Any, kind: str, actor: str) -> bool:
    """Write an operator's word about an unknown effect, with its event."""
    values = {
        "effect": effect_id,
        "state": state,
        "receipt": None if receipt is None else sql.jsonb(receipt),
        "kind": kind,
        "actor": actor,
    }
    return sql.count(RESOLVE, values) == 1


def go_on(*, step_run_id: int, effect_id: int, actor: str) -> bool:
    """Make the step ready that waited for the word about its effect. False: it does not wait."""
    values = {"id": step_run_id, "effect": effect_id, "reason": EFFECT_UNKNOWN, "actor": actor}
    return sql.count(GO_ON, values) == 1
