"""Holding StepRuns: claim, show as running, renew, hand back. Each is one guarded round trip.

A claim of one step shows it as running at once. A claim of several leaves them queued, held: what a
short body costs is then one write, its completion (`completions`). So `running` means alone under
its claim, and only what ran alone when its worker was lost is blamed for that.

Sources: research/durability.md 3.2-3.4 and 5.3, research/hot-path.md. In all statements several
rows of a run are locked by descending id, the run's own row last (see engine/README.md, "Locks").
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import sql, trace_context
from engine.transitions import told

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
# noted all the same, or `resume` would make it `pending` again. Who is to run alone is not taken
# along by an old message that names it beside others. OFFSET 0: the run is looked up by its key,
# whatever a plan made while few runs were open would prefer. Steps are looked up by theirs: where
# `state` stood bare PostgreSQL would read the partial index of all that is in flight instead, which
# it takes for empty when it last counted in a quiet moment (so in `completions`, `dispatch`). A
# lease is there already when a claim whose answer was lost is made again and more has become
# claimable since.
_CLAIM = """
WITH commit_later AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
{claimed}
leased AS (
    INSERT INTO engine_lease (claim, worker, expires_at, claimed_at, step_run_ids)
    SELECT %(claim)s, %(worker)s, clock_timestamp() + make_interval(secs => %(lease)s),
        clock_timestamp(), {ids}
    ON CONFLICT (claim) DO UPDATE SET expires_at = excluded.expires_at,
        step_run_ids = engine_lease.step_run_ids || excluded.step_run_ids),
begun AS (
    UPDATE engine_run r
    SET state = CASE WHEN r.state = 'pending' THEN 'running' ELSE r.state END,
        started_at = clock_timestamp()
    FROM {runs} c
    WHERE r.id = c.run_id AND r.started_at IS NULL
    RETURNING {of_run}),
told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.events', 'run.started', id, jsonb_build_object({words}),
        clock_timestamp()
    FROM begun),
noted AS (
    INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
    {started}
    SELECT id, NULL, 'run.started', NULL, '', '{{}}'::jsonb, clock_timestamp() FROM begun)
SELECT *{more} FROM claimed
"""
_CLAIMABLE = """s.claim IS NULL AND NOT s.cancel_requested
      AND (s.state || '' = 'queued' OR (s.state || '' = 'ready' AND l.max_concurrency IS NULL))
      AND r.state IN ('pending', 'running', 'blocked') AND NOT l.paused"""
_OF_STEP = """s.id, s.run_id, s.key, s.map_index, s.kind, s.lane, s.queue, s.attempt, s.failures,
        s.crashes,
        COALESCE(extract(epoch FROM clock_timestamp() - s.ready_at), 0)::float8 AS waited"""
_OF_RUN = "version_id, {r}.correlation_id, {r}.traceparent, {r}.department, {r}.automation"
CLAIM_ONE = sql.compact(_CLAIM).format(
    of_run=told.OF_RUN,
    words=sql.compact(told.words("begun")),
    claimed=sql.compact(f"""
    claimed AS (
        UPDATE engine_steprun s
        SET state = 'running', claim = %(claim)s, worker = %(worker)s, next_at = NULL,
            attempt = s.attempt + 1, started_at = clock_timestamp()
        FROM commit_later, engine_run r, engine_lane l
        WHERE s.id = ANY(%(ids)s::bigint[]) AND r.id = s.run_id AND l.slug = s.lane AND {_CLAIMABLE}
        RETURNING {_OF_STEP}, r.{_OF_RUN.format(r="r")}, r.input),"""),
    started=sql.compact("""
    SELECT run_id, id, 'step.started', attempt, %(worker)s, '{}'::jsonb, clock_timestamp()
    FROM claimed UNION ALL"""),
    ids="ARRAY[id] FROM claimed",
    runs="claimed",
    more="",
)
# The input of a run comes with one of its steps: with each of 32 it would cost more than they do.
CLAIM_SEVERAL = sql.compact(_CLAIM).format(
    of_run=told.OF_RUN,
    words=sql.compact(told.words("begun")),
    claimed=sql.compact(f"""
    mine AS (
        SELECT s.id, r.{_OF_RUN.format(r="r")}
        FROM commit_later, engine_steprun s JOIN engine_lane l ON l.slug = s.lane
            CROSS JOIN LATERAL (SELECT * FROM engine_run r WHERE r.id = s.run_id OFFSET 0) r
        WHERE s.id = ANY(%(ids)s::bigint[]) AND NOT s.alone AND {_CLAIMABLE}
        ORDER BY s.id DESC FOR NO KEY UPDATE OF s),
    claimed AS (
        UPDATE engine_steprun s
        SET state = 'queued', claim = %(claim)s, worker = %(worker)s, next_at = NULL
        FROM mine m WHERE s.id = m.id
        RETURNING {_OF_STEP}, m.{_OF_RUN.format(r="m")}),"""),
    started="",
    ids="array_agg(id) FROM claimed HAVING count(*) > 0",
    runs="(SELECT DISTINCT run_id FROM claimed)",
    more=sql.compact("""
    , CASE WHEN row_number() OVER (PARTITION BY run_id) = 1
        THEN (SELECT r.input FROM engine_run r WHERE r.id = claimed.run_id) END AS input"""),
)

# A message may be faster than the commit that notes its sending: wait for that one.
ARRIVING = """
SELECT 1 FROM engine_steprun
WHERE id = ANY(%(ids)s::bigint[]) AND state || '' IN ('ready', 'queued') AND claim IS NULL
ORDER BY id DESC FOR NO KEY UPDATE
"""

# The answer to a claim, or to a completion that claimed successors, was lost on the way.
OPEN = """
SELECT s.id, s.run_id, s.key, s.map_index, s.kind, s.lane, s.queue, s.attempt, s.failures,
    s.crashes, 0.0::float8 AS waited, r.version_id, r.input, r.correlation_id, r.traceparent,
    r.department, r.automation, s.state
FROM engine_run r JOIN engine_steprun s ON s.run_id = r.id
WHERE r.id IN (SELECT m.run_id
        FROM engine_lease l JOIN engine_steprun m ON m.id = ANY(l.step_run_ids)
        WHERE l.claim = %(claim)s)
  AND s.claim = %(claim)s AND s.state || '' IN ('queued', 'running')
ORDER BY s.id DESC
"""

# A body outlasts what a group's completion may hide: it is shown since its true beginning. The row
# may be locked by the body's own transaction, which its process would wait for: not shown then.
_SHOW = """
WITH mine AS (
    SELECT s.id FROM engine_steprun s
    WHERE s.id = %(id)s AND s.claim = %(claim)s AND s.state || '' = 'queued'
    FOR NO KEY UPDATE {otherwise}),
shown AS (
    UPDATE engine_steprun s
    SET state = 'running', attempt = s.attempt + 1,
        started_at = statement_timestamp() - make_interval(secs => %(ran)s)
    FROM mine m WHERE s.id = m.id
    RETURNING s.run_id, s.id, s.attempt, s.worker, s.started_at)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.started', attempt, worker, '{{}}'::jsonb, started_at FROM shown
"""
SHOW = _SHOW.format(otherwise="")
SHOW_UNLESS_LOCKED = _SHOW.format(otherwise="SKIP LOCKED")

# What is given back was only queued and is again: no event, the message that follows is its second.
# Of a run or lane that was paused meanwhile it is what the pause makes of everything queued.
HAND_BACK = """
WITH mine AS (
    SELECT s.id, r.state IN ('pending', 'running', 'blocked') AND NOT l.paused AS goes_on
    FROM engine_steprun s JOIN engine_run r ON r.id = s.run_id
        JOIN engine_lane l ON l.slug = s.lane
    WHERE s.id = ANY(%(ids)s) AND s.claim = %(claim)s AND s.state || '' = 'queued'
    ORDER BY s.id DESC FOR NO KEY UPDATE OF s),
back AS (
    UPDATE engine_steprun s
    SET claim = NULL, state = CASE WHEN m.goes_on THEN 'queued' ELSE 'ready' END,
        dispatched_at = clock_timestamp()
    FROM mine m WHERE s.id = m.id
    RETURNING s.id, s.queue, s.state, s.cancel_requested),
released AS (
    DELETE FROM engine_lease l USING (SELECT count(*) FROM back) b
    WHERE l.claim = %(claim)s AND %(last)s)
SELECT id, queue FROM back WHERE state = 'queued' AND NOT cancel_requested
"""

# The deadline comes from the moment at which the database saw the attempt begin, so that a holder
# whose clock stands still cannot move it; signs of progress move it within that. LEAST skips NULL.
RENEW = """
WITH held AS (
    SELECT bool_or(s.cancel_requested) AS cancel,
        LEAST(min(s.started_at) + make_interval(secs => %(attempt)s),
            clock_timestamp() + make_interval(secs => %(patience)s)) AS deadline_at
    FROM engine_steprun s
    WHERE s.id = %(id)s AND s.claim = %(claim)s AND s.state || '' = 'running')
UPDATE engine_lease l
SET deadline_at = h.deadline_at,
    expires_at = LEAST(clock_timestamp() + make_interval(secs => %(lease)s), h.deadline_at)
FROM held h WHERE l.claim = %(claim)s
RETURNING h.cancel
"""

HELD = """
SELECT s.cancel_requested FROM engine_steprun s
WHERE s.id = %(id)s AND s.claim = %(claim)s AND s.state || '' IN ('queued', 'running')
"""

GUARD = HELD + " FOR NO KEY UPDATE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A StepRun this process holds under `claim`, with what it needs of its run.

    `attempt` is the number of the attempt that this claim is for.
    """

    claim: UUID
    worker: str
    id: int
    run_id: UUID
    key: str
    map_index: int
    kind: str
    lane: str
    queue: str
    attempt: int
    failures: int
    crashes: int
    version_id: int
    #: The run's input, as JSON.
    input: str
    correlation_id: str
    traceparent: str
    department: str
    automation: str
    #: Whether it is shown as running since it was claimed; else it is queued, held beside others.
    begun: bool
    #: How long it had been ready when it was claimed, in seconds, and when that was (monotonic).
    waited: float = 0.0
    claimed_at: float = field(default_factory=time.monotonic)

    @property
    def logged(self) -> dict[str, Any]:
        """Return what every line of the log says of it."""
        words = {
            "run_id": str(self.run_id),
            "step": self.key,
            "step_id": self.id,
            "attempt": self.attempt,
            "correlation_id": self.correlation_id,
        }
        if self.traceparent:
            words["trace_id"] = trace_context.trace_id(self.traceparent)
        return words


def claim(
    *, step_run_ids: Sequence[int], claim: UUID, worker: str, lease_seconds: float
) -> list[Claimed]:
    """Take what is claimable of these StepRuns; the rest is somebody else's, done, or held back.

    Returned in the order given. One is running from now on; several stay queued, held.
    """
    values = {
        "ids": sql.array(step_run_ids),
        "claim": claim,
        "worker": worker,
        "lease": lease_seconds,
    }
    alone = len(step_run_ids) == 1
    statement = CLAIM_ONE if alone else CLAIM_SEVERAL
    found = sql.rows(statement, values)
    if not found and sql.rows(ARRIVING, {"ids": values["ids"]}):
        found = sql.rows(statement, values)
    place = {step_run_id: n for n, step_run_id in enumerate(step_run_ids)}
    found.sort(key=lambda row: place[row.id])
    inputs = {row.run_id: row.input for row in found if row.input is not None}
    return [_claimed(row, claim, worker, inputs[row.run_id], begun=alone) for row in found]


def still_open(*, claim: UUID, worker: str) -> list[Claimed]:
    """Return what this claim holds: asked when an answer about it was lost on the way."""
    found = sql.rows(OPEN, {"claim": claim})
    return [_claimed(row, claim, worker, row.input, begun=row.state == "running") for row in found]


def show(*, step: Claimed, ran_seconds: float, unless_locked: bool = False) -> bool:
    """Show a held step as running since `ran_seconds` ago. False: it is already, or is not held.

    unless_locked: do nothing, instead of waiting, while a transaction holds the row.
    """
    values = {"id": step.id, "claim": step.claim, "ran": ran_seconds}
    return sql.count(SHOW_UNLESS_LOCKED if unless_locked else SHOW, values) == 1


def hand_back(*, step_run_ids: Sequence[int], claim: UUID, last: bool) -> list[tuple[int, str]]:
    """Give held steps back, still queued; return (id, queue) of those to be sent again.

    last: nothing else is held under the claim, which ends with this.
    """
    values = {"ids": list(step_run_ids), "claim": claim, "last": last}
    return [(row.id, row.queue) for row in sql.rows(HAND_BACK, values)]


def renew(
    *,
    claim: UUID,
    step_run_id: int,
    lease_seconds: float,
    attempt_seconds: float | None,
    patience_seconds: float | None,
) -> bool | None:
    """Prolong a claim. Return whether a cancel is wanted, or None when the claim is lost.

    Not beyond `attempt_seconds` after its begin, nor `patience_seconds` from now.
    """
    values = {
        "claim": claim,
        "id": step_run_id,
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


def succeeded_before(*, step_run_ids: Sequence[int], claim: UUID) -> set[int]:
    """Return which of these this very claim has completed: asked when an answer was lost."""
    found = sql.rows(
        "SELECT id FROM engine_steprun WHERE id = ANY(%(ids)s) AND claim = %(claim)s"
        " AND state = 'succeeded'",
        {"ids": list(step_run_ids), "claim": claim},
    )
    return {row.id for row in found}


def _claimed(row: Any, claim: UUID, worker: str, given: str, *, begun: bool) -> Claimed:
    words = row._asdict()
    words.pop("state", None)
    words["input"] = given
    # Held beside others it has not begun to count: this attempt will be the next one.
    words["attempt"] = row.attempt if begun else row.attempt + 1
    return Claimed(claim=claim, worker=worker, begun=begun, **words)
