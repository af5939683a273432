"""The hot statements: claim, renew, complete. Each is one round trip, guarded, with its events.

Sources: research/durability.md 3.2-3.4 and 5.3, research/hot-path.md. In all of them several rows
of a run are locked by descending id, the run's own row last (see engine/README.md, "Locks").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import sql
from engine.publishing import ReadyStep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

# A lane without limit that is open lets a fast path send by itself; any other waits for the
# dispatcher, which alone creates credit.
LANE_IS_FREE = """COALESCE((SELECT NOT l.paused AND l.max_concurrency IS NULL
    FROM engine_lane l WHERE l.slug = {row}.lane), false)"""

# The claim is committed without waiting for the disk (set_config is local to this transaction): if
# PostgreSQL crashes and loses it, the row is queued again and this claim is fenced (point 19).
# Of a lane with a limit only what the dispatcher has sent on credit may be claimed: a late message
# would pass the limit. A pause that overtakes the claim keeps its state; that the run has begun is
# noted all the same, or `resume` would make it `pending` again.
CLAIM = """
WITH commit_later AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
claimed AS (
    UPDATE engine_steprun s
    SET state = 'running', attempt = s.attempt + 1, claim = %(claim)s, worker = %(worker)s,
        started_at = clock_timestamp(), next_at = NULL
    FROM commit_later, engine_run r, engine_lane l
    WHERE s.id = ANY(%(ids)s) AND s.claim IS NULL AND NOT s.cancel_requested
      AND (s.state = 'queued' OR (s.state = 'ready' AND l.max_concurrency IS NULL))
      AND r.id = s.run_id AND r.state IN ('pending', 'running', 'blocked')
      AND l.slug = s.lane AND NOT l.paused
    RETURNING s.id, s.run_id, s.key, s.map_index, s.kind, s.lane, s.attempt, s.failures,
        s.crashes, r.version_id, r.input, r.correlation_id, r.department, r.automation),
leased AS (
    INSERT INTO engine_lease (claim, worker, expires_at)
    SELECT %(claim)s, %(worker)s, clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE EXISTS (SELECT 1 FROM claimed)),
begun AS (
    UPDATE engine_run r
    SET state = CASE WHEN r.state = 'pending' THEN 'running' ELSE r.state END,
        started_at = clock_timestamp()
    FROM (SELECT DISTINCT run_id FROM claimed) c
    WHERE r.id = c.run_id AND r.started_at IS NULL
    RETURNING r.id, r.state, r.automation, r.department, r.correlation_id),
told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.events', 'run.started', id, jsonb_build_object('automation', automation,
        'department', department, 'correlation_id', correlation_id, 'status', state),
        clock_timestamp()
    FROM begun),
noted AS (
    INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
    SELECT run_id, id, 'step.started', attempt, %(worker)s, '{}'::jsonb, clock_timestamp()
    FROM claimed
    UNION ALL
    SELECT id, NULL, 'run.started', NULL, '', '{}'::jsonb, clock_timestamp() FROM begun)
SELECT * FROM claimed
"""

# A message may be faster than the commit that notes its sending: wait for that one.
ARRIVING = """
SELECT 1 FROM engine_steprun
WHERE id = ANY(%(ids)s) AND state IN ('ready', 'queued') AND claim IS NULL
FOR NO KEY UPDATE
"""

# The deadline comes from the moment at which the database saw the attempt begin, so that a holder
# whose clock stands still cannot move it; signs of progress move it within that. LEAST skips NULL.
RENEW = """
WITH held AS (
    SELECT bool_or(s.cancel_requested) AS cancel,
        LEAST(min(s.started_at) + make_interval(secs => %(attempt)s),
            clock_timestamp() + make_interval(secs => %(patience)s)) AS deadline_at
    FROM engine_steprun s
    WHERE s.id = ANY(%(ids)s) AND s.claim = %(claim)s AND s.state = 'running')
UPDATE engine_lease l
SET deadline_at = h.deadline_at,
    expires_at = LEAST(clock_timestamp() + make_interval(secs => %(lease)s), h.deadline_at)
FROM held h WHERE l.claim = %(claim)s
RETURNING h.cancel
"""

HELD = """
SELECT s.cancel_requested FROM engine_steprun s
WHERE s.id = %(id)s AND s.claim = %(claim)s AND s.state = 'running'
"""

GUARD = HELD + " FOR NO KEY UPDATE"

_DONE = """
WITH done AS (
    UPDATE engine_steprun
    SET state = 'succeeded', finished_at = clock_timestamp(), error_code = '', error_message = ''
    WHERE id = %(id)s AND state = 'running' AND claim = %(claim)s
    RETURNING id, run_id, attempt, lane, worker),
released AS (DELETE FROM engine_lease l USING done WHERE l.claim = %(claim)s),
"""

# Readies the successors in the transaction that ends their last parent (I5). `pending` falls in
# every state, so that it stays true for a step that a requeue may bring back.
_AFTER = f"""
following AS (
    SELECT s.id FROM engine_steprun s JOIN done d ON s.run_id = d.run_id
    WHERE s.key = ANY(%(successors)s) AND s.map_index = -1
    ORDER BY s.id DESC FOR NO KEY UPDATE OF s),
freed AS (
    UPDATE engine_steprun s
    SET pending = s.pending + %(change)s,
        state = CASE WHEN s.state = 'waiting' AND s.pending + %(change)s = 0
            THEN CASE WHEN {LANE_IS_FREE.format(row="s")} AND r.state IN ('running', 'blocked')
                THEN 'queued' ELSE 'ready' END
            ELSE s.state END,
        ready_at = CASE WHEN s.pending + %(change)s = 0 THEN clock_timestamp() END,
        dispatched_at = CASE WHEN s.pending + %(change)s = 0 THEN clock_timestamp() END,
        dispatches = 0
    FROM following f, engine_run r
    WHERE s.id = f.id AND r.id = s.run_id
    RETURNING s.id, s.queue, s.state, s.pending),
ended AS (
    UPDATE engine_run r
    SET pending = r.pending + %(change)s,
        state = CASE WHEN r.pending + %(change)s = 0 AND r.state IN ('running', 'paused')
            THEN 'succeeded' ELSE r.state END,
        finished_at = CASE WHEN r.pending + %(change)s = 0 AND r.state IN ('running', 'paused')
            THEN clock_timestamp() END
    FROM done d WHERE r.id = d.run_id AND %(sink)s
    RETURNING r.id, r.state, r.automation, r.department, r.correlation_id),
told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.events', 'run.completed', id, jsonb_build_object('automation', automation,
        'department', department, 'correlation_id', correlation_id, 'status', state),
        clock_timestamp()
    FROM ended WHERE state = 'succeeded'),
"""

COMPLETE = (
    _DONE
    + _AFTER
    + """
output AS (
    INSERT INTO engine_stepoutput (step_run_id, value, ref)
    SELECT id, %(value)s, %(ref)s FROM done),
kept AS (
    INSERT INTO engine_artifact
        (id, run_id, step_run_id, name, sha256, size, media_type, created_by, created_at)
    SELECT a.id, d.run_id, d.id, a.name, a.sha256, a.size, a.media_type, d.worker,
        clock_timestamp()
    FROM done d, jsonb_to_recordset(%(artifacts)s)
        AS a(id uuid, name text, sha256 text, size bigint, media_type text)),
noted AS (
    INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
    SELECT d.run_id, d.id, 'step.warning', d.attempt, d.worker, w.data, clock_timestamp()
    FROM done d, jsonb_to_recordset(%(warnings)s) AS w(data jsonb)
    UNION ALL
    SELECT run_id, id, 'step.succeeded', attempt, worker, '{}'::jsonb, clock_timestamp() FROM done
    UNION ALL
    SELECT id, NULL, 'run.succeeded', NULL, '', '{}'::jsonb, clock_timestamp()
    FROM ended WHERE state = 'succeeded')
SELECT d.id, f.id AS next_id, f.queue AS next_queue
FROM done d LEFT JOIN freed f ON f.state = 'queued' AND f.pending = 0
"""
)

# A map's planner turns into its items. The run is held FOR SHARE so that a cancel either comes
# first (no `still_open`, the caller rolls back) or finds the items.
EXPAND = (
    _DONE
    + f"""
still_open AS (
    SELECT r.id, r.state, r.priority FROM engine_run r JOIN done d ON r.id = d.run_id
    WHERE r.state IN ('running', 'blocked', 'paused') FOR SHARE OF r),
items AS (
    INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending,
        priority, ready_at, dispatched_at, dispatches, attempt, failures, crashes, worker,
        cancel_requested, error_code, error_message)
    SELECT d.run_id, %(key)s, t.n - 1, 'step', d.lane, %(queue)s,
        CASE WHEN {LANE_IS_FREE.format(row="d")} AND o.state IN ('running', 'blocked')
            THEN 'queued' ELSE 'ready' END,
        0, o.priority, clock_timestamp(), clock_timestamp(), 0, 0, 0, 0, '', false, '', ''
    FROM done d, still_open o, generate_series(1, %(size)s) AS t(n)
    RETURNING id, map_index, queue, state),
inputs AS (
    INSERT INTO engine_stepinput (step_run_id, value)
    SELECT i.id, t.value FROM items i
    JOIN unnest(%(values)s::jsonb[]) WITH ORDINALITY AS t(value, n) ON t.n = i.map_index + 1),
"""
    + _AFTER
    + """
noted AS (
    INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
    SELECT run_id, id, 'step.mapped', attempt, worker, jsonb_build_object('items', %(size)s::int),
        clock_timestamp() FROM done
    UNION ALL
    SELECT id, NULL, 'run.succeeded', NULL, '', '{}'::jsonb, clock_timestamp()
    FROM ended WHERE state = 'succeeded'),
sendable AS (
    SELECT id, queue FROM items WHERE state = 'queued'
    UNION ALL
    SELECT id, queue FROM freed WHERE state = 'queued' AND pending = 0)
SELECT d.id, (SELECT count(*) FROM still_open) AS open, n.id AS next_id, n.queue AS next_queue
FROM done d LEFT JOIN sendable n ON true
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A StepRun this process holds under `claim`, with what it needs of its run."""

    claim: UUID
    worker: str
    id: int
    run_id: UUID
    key: str
    map_index: int
    kind: str
    lane: str
    attempt: int
    failures: int
    crashes: int
    version_id: int
    input: dict[str, Any]
    correlation_id: str
    department: str
    automation: str


def claim(
    *, step_run_ids: Sequence[int], claim: UUID, worker: str, lease_seconds: float
) -> list[Claimed]:
    """Take what is claimable of these StepRuns; the rest is somebody else's, done, or held back."""
    values = {
        "ids": list(step_run_ids),
        "claim": claim,
        "worker": worker,
        "lease": lease_seconds,
    }
    found = sql.rows(CLAIM, values)
    if not found and sql.rows(ARRIVING, {"ids": values["ids"]}):
        found = sql.rows(CLAIM, values)
    return [
        Claimed(claim=claim, worker=worker, **{**row._asdict(), "input": sql.parsed(row.input)})
        for row in found
    ]


def renew(
    *,
    claim: UUID,
    step_run_ids: Sequence[int],
    lease_seconds: float,
    attempt_seconds: float | None,
    patience_seconds: float | None,
) -> bool | None:
    """Prolong a claim. Return whether a cancel is wanted, or None when the claim is lost.

    Not beyond `attempt_seconds` after its begin, nor `patience_seconds` from now.
    """
    values = {
        "claim": claim,
        "ids": list(step_run_ids),
        "lease": lease_seconds,
        "attempt": attempt_seconds,
        "patience": patience_seconds,
    }
    found = sql.rows(RENEW, values)
    return bool(found[0].cancel) if found else None


def held(*, step: Claimed, lock: bool = False) -> bool | None:
    """Return whether a cancel is wanted of a step still held, or None when the claim is lost.

    lock: keep the row until the transaction ends: the guard of a writing step.
    """
    found = sql.rows(GUARD if lock else HELD, {"id": step.id, "claim": step.claim})
    return bool(found[0].cancel_requested) if found else None


def succeeded_before(*, step: Claimed) -> bool:
    """Tell whether this very claim already completed: asked when a commit's answer was lost."""
    found = sql.rows(
        "SELECT 1 FROM engine_steprun WHERE id = %(id)s AND claim = %(claim)s"
        " AND state = 'succeeded'",
        {"id": step.id, "claim": step.claim},
    )
    return bool(found)


def complete(
    *,
    step: Claimed,
    value: Any,
    ref: dict[str, Any] | None,
    artifacts: list[dict[str, Any]],
    warnings: list[dict[str, Any]],
    successors: list[str],
) -> list[ReadyStep] | None:
    """End a held step with its result and ready its successors.

    Returns what is to be published now, or None when the claim is lost (nothing was written).
    """
    found = sql.rows(
        COMPLETE,
        {
            "id": step.id,
            "claim": step.claim,
            "value": None if ref else sql.jsonb(value),
            "ref": sql.jsonb(ref) if ref else None,
            "artifacts": sql.jsonb(artifacts),
            "warnings": sql.jsonb([{"data": warning} for warning in warnings]),
            "successors": successors,
            "sink": not successors,
            "change": -1,
        },
    )
    return _sendable(found)


def expand(
    *, step: Claimed, queue: str, items: list[dict[str, Any]], successors: list[str]
) -> list[ReadyStep] | None:
    """End a held map planner and insert one StepRun per item; call it in a transaction.

    Returns what is to be published now, None when the claim is lost or the run is ending (the
    caller rolls back).
    """
    found = sql.rows(
        EXPAND,
        {
            "id": step.id,
            "claim": step.claim,
            "key": step.key,
            "queue": queue,
            "size": len(items),
            "values": [sql.jsonb(item) for item in items],
            "successors": successors,
            "sink": not successors,
            # The planner itself was counted once: it leaves, its items come.
            "change": len(items) - 1,
        },
    )
    if not found or not found[0].open:
        return None
    return _sendable(found)


def _sendable(found: list[Any]) -> list[ReadyStep] | None:
    if not found:
        return None
    return [ReadyStep(row.next_id, row.next_queue) for row in found if row.next_id is not None]
