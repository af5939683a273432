"""How held steps end well: one statement for a group of them, with their events and successors.

The statement is put together from the parts a group needs: most steps have no artifact, and many no
successor, and what a statement does not name costs nothing. Locks: the members by descending id,
then their successors likewise, then the runs (see engine/README.md, "Locks").
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from engine import sql, tracing
from engine.publishing import ReadyStep
from engine.transitions import told
from engine.transitions.claims import LANE_IS_FREE, Claimed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

# A member that is not held any more drops out here; the others stand. A short body's beginning is
# told by its completion, so `was` decides whether it still has to be.
_MINE = """
WITH mine AS (
    SELECT s.id, s.state AS was FROM engine_steprun s
    WHERE s.id = ANY(%(ids)s) AND s.claim = %(claim)s AND s.state || '' IN ('queued', 'running')
    ORDER BY s.id DESC FOR NO KEY UPDATE),
given AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(began)s::float8[], %(ended)s::float8[])
        AS t(id, began, ended)),
done AS (
    UPDATE engine_steprun s
    SET state = 'succeeded', error_code = '', error_message = '',
        attempt = CASE WHEN m.was = 'queued' THEN s.attempt + 1 ELSE s.attempt END,
        started_at = CASE WHEN m.was = 'queued'
            THEN statement_timestamp() - make_interval(secs => g.began) ELSE s.started_at END,
        finished_at = statement_timestamp() - make_interval(secs => g.ended)
    FROM mine m JOIN given g ON g.id = m.id
    WHERE s.id = m.id
    RETURNING s.id, s.run_id, s.lane, s.attempt, s.worker, s.started_at, s.finished_at, m.was)
"""
_OUTPUTS = """,
output AS (
    INSERT INTO engine_stepoutput (step_run_id, value, ref)
    SELECT d.id, o.value, o.ref
    FROM done d JOIN unnest(%(ids)s::bigint[], %(values)s::jsonb[], %(refs)s::jsonb[])
        AS o(id, value, ref) ON o.id = d.id)
"""
_EXTRAS = """,
kept AS (
    INSERT INTO engine_artifact
        (id, run_id, step_run_id, name, sha256, size, media_type, created_by, created_at)
    SELECT a.id, d.run_id, d.id, a.name, a.sha256, a.size, a.media_type, d.worker,
        clock_timestamp()
    FROM done d JOIN jsonb_to_recordset(%(artifacts)s) AS a(step bigint, id uuid, name text,
        sha256 text, size bigint, media_type text) ON a.step = d.id)
"""
# Readies the successors in the transaction that ends their last parent (I5). `pending` falls in
# every state, so that it stays true for a step that a requeue may bring back. What the holder goes
# on with itself (sticky) is claimed here: alone it is running, beside others it is queued, held.
# A pause, a cancel and a lane's limit are looked at again: a fast path has no credit. What is
# written comes from the row as it was locked: an UPDATE builds its row from the snapshot first, and
# meets the constraints with it, before it finds that another has changed it.
_SUCCESSORS = f""",
edges AS (
    SELECT d.run_id, e.key, {{change}} AS change, bool_or(e.sticky) AS sticky
    FROM unnest(%(parents)s::bigint[], %(keys)s::text[], %(sticky)s::boolean[])
        AS e(parent, key, sticky) JOIN done d ON d.id = e.parent
    GROUP BY d.run_id, e.key),
following AS (
    SELECT s.id, s.run_id, s.lane, s.state, s.pending + e.change AS pending, s.attempt,
        e.sticky AND s.queue = %(queue)s AND NOT s.cancel_requested AND NOT s.alone AS sticky
    FROM edges e JOIN engine_steprun s
        ON s.run_id = e.run_id AND s.key = e.key AND s.map_index = -1
    ORDER BY s.id DESC FOR NO KEY UPDATE OF s),
judged AS (
    SELECT f.*, f.state = 'waiting' AND f.pending = 0 AS due,
        f.state = 'waiting' AND f.pending = 0 AND r.state IN ('running', 'blocked')
            AND {LANE_IS_FREE.format(row="f")} AS free
    FROM following f JOIN engine_run r ON r.id = f.run_id),
freed AS (
    UPDATE engine_steprun s
    SET pending = j.pending,
        state = CASE WHEN NOT j.due THEN j.state WHEN NOT j.free THEN 'ready'
            WHEN j.sticky AND %(solo)s THEN 'running' ELSE 'queued' END,
        claim = CASE WHEN j.free AND j.sticky THEN %(claim)s ELSE s.claim END,
        worker = CASE WHEN j.free AND j.sticky THEN %(worker)s ELSE s.worker END,
        attempt = CASE WHEN j.free AND j.sticky AND %(solo)s THEN j.attempt + 1
            ELSE j.attempt END,
        started_at = CASE WHEN j.free AND j.sticky AND %(solo)s THEN clock_timestamp()
            ELSE s.started_at END,
        ready_at = CASE WHEN j.pending = 0 THEN clock_timestamp() END,
        dispatched_at = CASE WHEN j.pending = 0 THEN clock_timestamp() END,
        dispatches = 0
    FROM judged j WHERE s.id = j.id
    RETURNING s.id, s.run_id, s.key, s.kind, s.lane, s.queue, s.attempt, s.failures, s.crashes,
        s.state, s.started_at, j.free, j.free AND j.sticky AS mine)
"""
# The runs come last, also when this statement could take them earlier.
_SINKS = """,
ends AS (
    SELECT run_id, {change} AS change FROM done WHERE id = ANY(%(sinks)s) GROUP BY run_id),
closing AS (
    SELECT r.id, e.change FROM ends e JOIN engine_run r ON r.id = e.run_id
    WHERE {after}
    ORDER BY r.id FOR NO KEY UPDATE OF r)
"""
_ONE_SINK = """,
closing AS (SELECT run_id AS id, -1 AS change FROM done)
"""
_RUNS = f""",
ended AS (
    UPDATE engine_run r
    SET pending = r.pending + c.change,
        state = CASE WHEN r.pending + c.change = 0 AND r.state IN ('running', 'paused')
            THEN 'succeeded' ELSE r.state END,
        finished_at = CASE WHEN r.pending + c.change = 0 AND r.state IN ('running', 'paused')
            THEN clock_timestamp() END
    FROM closing c WHERE r.id = c.id
    RETURNING {told.OF_RUN}),
told AS (
    INSERT INTO engine_outboxevent (stream, event_type, run_id, data, at)
    SELECT 'automation.events', 'run.completed', id, jsonb_build_object({told.words("ended")}),
        clock_timestamp()
    FROM ended WHERE state = 'succeeded')
"""
# The lease ends with the last member, unless the holder goes on.
_LEASE = """,
released AS (
    DELETE FROM engine_lease l USING (SELECT 1 FROM done LIMIT 1) d
    WHERE l.claim = %(claim)s AND %(last)s {unless})
"""
_NONE_JOINED = "AND NOT EXISTS (SELECT 1 FROM freed WHERE mine)"
_NOTED = """,
noted AS (
    INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
    {events})
"""
_ALSO = "\n    UNION ALL\n    "
_BEGAN = """SELECT run_id, id, 'step.started', attempt, worker, '{}'::jsonb, started_at
    FROM done WHERE was = 'queued'"""
_WARNED = """SELECT d.run_id, d.id, 'step.warning', d.attempt, d.worker, w.data, clock_timestamp()
    FROM done d JOIN jsonb_to_recordset(%(warnings)s) AS w(step bigint, data jsonb)
        ON w.step = d.id"""
_SUCCEEDED = """SELECT run_id, id, 'step.succeeded', attempt, worker, '{}'::jsonb, finished_at
    FROM done"""
_MAPPED = """SELECT run_id, id, 'step.mapped', attempt, worker,
        jsonb_build_object('items', %(size)s::int), finished_at FROM done"""
_RUN_SUCCEEDED = """SELECT id, NULL, 'run.succeeded', NULL, '', '{}'::jsonb, clock_timestamp()
    FROM ended WHERE state = 'succeeded'"""
_WENT_ON = """SELECT run_id, id, 'step.started', attempt, %(worker)s, '{}'::jsonb, started_at
    FROM freed WHERE mine AND state = 'running'"""
_NOTHING = """NULL::text AS key, NULL::text AS kind, NULL::text AS lane, NULL::text AS queue,
    NULL::int AS attempt, NULL::int AS failures, NULL::int AS crashes"""
_RETURN_DONE = f"SELECT 'done' AS what, id, run_id, {_NOTHING} FROM done"
_RETURN_FREED = """
UNION ALL
SELECT CASE WHEN mine AND state = 'running' THEN 'running' WHEN mine THEN 'held' ELSE 'ready' END,
    id, run_id, key, kind, lane, queue, attempt, failures, crashes
FROM freed WHERE free
"""


@lru_cache(maxsize=8)
def statement(*, successors: bool, sinks: bool, extras: bool) -> str:
    """Return the completion of a group that has these: artifacts and warnings are the extras."""
    count = "-count(*)::int"
    parts = [_MINE, _OUTPUTS]
    events = [_BEGAN]
    if extras:
        parts.append(_EXTRAS)
        events.append(_WARNED)
    events.append(_SUCCEEDED)
    if successors:
        parts.append(_SUCCESSORS.format(change=count))
    if sinks:
        after = "(SELECT count(*) FROM freed) >= 0" if successors else "true"
        parts.append(_SINKS.format(change=count, after=after) + _RUNS)
        events.append(_RUN_SUCCEEDED)
    if successors:
        events.append(_WENT_ON)
    parts.append(_LEASE.format(unless=_NONE_JOINED if successors else ""))
    parts.append(_NOTED.format(events=_ALSO.join(events)))
    parts.append(_RETURN_DONE + (_RETURN_FREED if successors else ""))
    return sql.compact("".join(parts))


# One step that is shown as running, with one successor at most and nothing beside its result: what
# most steps of a chain are. It costs a third less than a group of one, and says the same.
_ALONE = """
WITH done AS (
    UPDATE engine_steprun
    SET state = 'succeeded', error_code = '', error_message = '',
        finished_at = statement_timestamp() - make_interval(secs => %(ended)s)
    WHERE id = %(id)s AND claim = %(claim)s AND state || '' = 'running'
    RETURNING id, run_id, lane, attempt, worker, finished_at),
output AS (
    INSERT INTO engine_stepoutput (step_run_id, value, ref)
    SELECT id, %(value)s::jsonb, %(ref)s::jsonb FROM done)
"""
_ALONE_SUCCESSOR = """,
freed AS (
    UPDATE engine_steprun s
    SET pending = s.pending - 1,
        state = CASE WHEN s.state <> 'waiting' OR s.pending > 1 THEN s.state
            WHEN NOT o.free THEN 'ready' WHEN {sticky} THEN 'running' ELSE 'queued' END,
        claim = CASE WHEN {goes_on} THEN %(claim)s ELSE s.claim END,
        worker = CASE WHEN {goes_on} THEN o.worker ELSE s.worker END,
        attempt = CASE WHEN {goes_on} THEN s.attempt + 1 ELSE s.attempt END,
        started_at = CASE WHEN {goes_on} THEN clock_timestamp() ELSE s.started_at END,
        ready_at = CASE WHEN s.pending = 1 THEN clock_timestamp() END,
        dispatched_at = CASE WHEN s.pending = 1 THEN clock_timestamp() END,
        dispatches = 0
    FROM (SELECT d.run_id, d.worker, r.state IN ('running', 'blocked')
                AND NOT COALESCE(l.paused, true) AND l.max_concurrency IS NULL AS free
            FROM done d JOIN engine_run r ON r.id = d.run_id
            LEFT JOIN engine_lane l ON l.slug = d.lane) o
    WHERE s.run_id = o.run_id AND s.key = %(key)s AND s.map_index = -1
    RETURNING s.id, s.run_id, s.key, s.kind, s.lane, s.queue, s.attempt, s.failures, s.crashes,
        s.state, s.started_at,
        s.pending = 0 AND s.state IN ('queued', 'running') AND o.free AS free,
        s.state = 'running' AND s.claim = %(claim)s AS mine)
"""


@lru_cache(maxsize=4)
def alone(*, successor: bool, sticky: bool) -> str:
    """Return the completion of one running step; `sticky`: to go on with its successor."""
    stays = "s.queue = %(queue)s AND NOT s.cancel_requested AND NOT s.alone"
    goes_on = f"o.free AND s.state = 'waiting' AND s.pending = 1 AND {stays}" if sticky else "false"
    events = [_SUCCEEDED]
    parts = [_ALONE]
    if successor:
        words = {"sticky": stays if sticky else "false", "goes_on": goes_on}
        parts.append(_ALONE_SUCCESSOR.format(**words))
        events.append(_WENT_ON)
    else:
        parts.append(_ONE_SINK + _RUNS)
        events.append(_RUN_SUCCEEDED)
    parts.append(_LEASE.format(unless=_NONE_JOINED if successor else ""))
    parts.append(_NOTED.format(events=_ALSO.join(events)))
    parts.append(_RETURN_DONE + (_RETURN_FREED if successor else ""))
    return sql.compact("".join(parts))


# A map's planner turns into its items. The run is held FOR SHARE so that a cancel either comes
# first (no `still_open`, the caller rolls back) or finds the items.
EXPAND = (
    _MINE
    + f""",
still_open AS (
    SELECT r.id, r.state, r.priority FROM engine_run r JOIN done d ON r.id = d.run_id
    WHERE r.state IN ('running', 'blocked', 'paused') FOR SHARE OF r),
items AS (
    INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending,
        priority, ready_at, dispatched_at, dispatches, attempt, failures, crashes, worker,
        cancel_requested, error_code, error_message)
    SELECT d.run_id, %(key)s, n - 1, 'step', d.lane, %(items_queue)s,
        CASE WHEN {LANE_IS_FREE.format(row="d")} AND o.state IN ('running', 'blocked')
            THEN 'queued' ELSE 'ready' END,
        0, o.priority, clock_timestamp(), clock_timestamp(), 0, 0, 0, 0, '', false, '', ''
    FROM done d, still_open o, generate_series(1, %(size)s) AS t(n)
    RETURNING id, map_index, queue, state),
inputs AS (
    INSERT INTO engine_stepinput (step_run_id, value)
    SELECT i.id, t.value FROM items i
    JOIN unnest(%(values)s::jsonb[]) WITH ORDINALITY AS t(value, n) ON t.n = i.map_index + 1)
"""
    + _SUCCESSORS.format(change="sum(%(size)s::int - 1)::int")
    + _SINKS.format(change="sum(%(size)s::int - 1)::int", after="(SELECT count(*) FROM freed) >= 0")
    + _RUNS
    + _LEASE.format(unless=_NONE_JOINED)
    + _NOTED.format(events=_ALSO.join((_BEGAN, _MAPPED, _RUN_SUCCEEDED)))
    + """,
sendable AS (
    SELECT id, queue FROM items WHERE state = 'queued'
    UNION ALL
    SELECT id, queue FROM freed WHERE free)
SELECT d.id, (SELECT count(*) FROM still_open) AS open, n.id AS next_id, n.queue AS next_queue
FROM done d LEFT JOIN sendable n ON true
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A held step whose body has returned, as it is to be written. Moments: monotonic clock."""

    step: Claimed
    #: The result as JSON text, or None when `ref` names the content that holds it.
    value: str | None
    ref: dict[str, Any] | None
    began: float
    ended: float
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    #: Keys of the steps that wait for it.
    successors: Sequence[str] = ()
    #: Ends when the result is written, as of `ended`.
    span: tracing.Span = tracing.NOTHING


@dataclass(frozen=True, slots=True)
class Completion:
    """What a group's completion has come to: who is done, what is to be sent, what goes on here."""

    done: frozenset[int]
    ready: list[ReadyStep]
    held: list[Claimed]


def complete(
    *,
    claim: UUID,
    finished: Sequence[Finished],
    open_ids: Sequence[int] = (),
    queue: str = "",
    sticky: Mapping[int, str] | None = None,
) -> Completion:
    """End held steps with their results and ready their successors; who lost its claim drops out.

    open_ids: what else is held under the claim and goes on. queue: where the holder takes its
    messages from. sticky: by StepRun, the key of the successor that the holder would go on with
    itself; one of another queue is sent all the same.
    """
    if len(finished) == 1 and not open_ids and _is_plain(finished[0]):
        return _complete_alone(finished[0], queue=queue, sticky=bool(sticky))
    now = time.monotonic()
    wanted = sticky or {}
    edges = [
        (one.step.id, key, wanted.get(one.step.id) == key)
        for one in finished
        for key in one.successors
    ]
    sinks = [one.step.id for one in finished if not one.successors]
    artifacts = [{"step": one.step.id, **kept} for one in finished for kept in one.artifacts]
    warnings = [{"step": one.step.id, "data": data} for one in finished for data in one.warnings]
    extras = bool(artifacts or warnings)
    values: dict[str, Any] = {
        "claim": claim,
        "ids": [one.step.id for one in finished],
        "values": [one.value for one in finished],
        "refs": [None if one.ref is None else sql.jsonb(one.ref) for one in finished],
        "began": [now - one.began for one in finished],
        "ended": [now - one.ended for one in finished],
        "last": not open_ids,
    }
    if extras:
        values |= {"artifacts": sql.jsonb(artifacts), "warnings": sql.jsonb(warnings)}
    if sinks:
        values["sinks"] = sinks
    if edges:
        values |= {
            "parents": [parent for parent, _key, _sticky in edges],
            "keys": [key for _parent, key, _sticky in edges],
            "sticky": [sticky for _parent, _key, sticky in edges],
            "queue": queue,
            "worker": finished[0].step.worker,
            "solo": len(finished) == 1 and not open_ids,
        }
    text = statement(successors=bool(edges), sinks=bool(sinks), extras=extras)
    return _completion(finished, sql.rows(text, values))


def _is_plain(one: Finished) -> bool:
    """Tell whether the statement for one step says all there is to say."""
    return one.step.begun and len(one.successors) <= 1 and not (one.artifacts or one.warnings)


def _complete_alone(one: Finished, *, queue: str, sticky: bool) -> Completion:
    values: dict[str, Any] = {
        "claim": one.step.claim,
        "id": one.step.id,
        "value": one.value,
        "ref": None if one.ref is None else sql.jsonb(one.ref),
        "ended": time.monotonic() - one.ended,
        "last": True,
    }
    if one.successors:
        values |= {"key": one.successors[0], "worker": one.step.worker, "queue": queue}
    text = alone(successor=bool(one.successors), sticky=sticky)
    return _completion([one], sql.rows(text, values))


def _completion(finished: Sequence[Finished], rows: Sequence[Any]) -> Completion:
    """Sort what a statement has returned."""
    of_run = {one.step.run_id: one.step for one in finished}
    done: set[int] = set()
    ready: list[ReadyStep] = []
    held: list[Claimed] = []
    for row in rows:
        if row.what == "done":
            done.add(row.id)
        elif row.what == "ready":
            ready.append(ReadyStep(row.id, row.queue))
        else:
            held.append(_successor(row, of_run[row.run_id]))
    return Completion(frozenset(done), ready, held)


def expand(
    *,
    step: Claimed,
    queue: str,
    items: list[str],
    successors: Sequence[str],
    began: float,
    open_ids: Sequence[int] = (),
) -> list[ReadyStep] | None:
    """End a held map planner and insert one StepRun per item; call it in a transaction.

    items: JSON texts. began: on the monotonic clock. open_ids: what else is held under the claim.
    Returns what is to be published now, None when the claim is lost or the run
    is ending (the caller rolls back).
    """
    found = sql.rows(
        EXPAND,
        {
            "ids": [step.id],
            "claim": step.claim,
            "began": [time.monotonic() - began],
            "ended": [0.0],
            "key": step.key,
            "items_queue": queue,
            "size": len(items),
            "values": items,
            "parents": [step.id] * len(successors),
            "keys": list(successors),
            "sticky": [False] * len(successors),
            "sinks": [] if successors else [step.id],
            "queue": "",
            "worker": step.worker,
            "solo": False,
            "last": not open_ids,
        },
    )
    if not found or not found[0].open:
        return None
    return [ReadyStep(row.next_id, row.next_queue) for row in found if row.next_id is not None]


def _successor(row: Any, parent: Claimed) -> Claimed:
    """Return a step that its parent's completion has claimed; the run's words are the same."""
    return Claimed(
        claim=parent.claim,
        worker=parent.worker,
        id=row.id,
        run_id=row.run_id,
        key=row.key,
        map_index=-1,
        kind=row.kind,
        lane=row.lane,
        queue=row.queue,
        attempt=row.attempt if row.what == "running" else row.attempt + 1,
        failures=row.failures,
        crashes=row.crashes,
        version_id=parent.version_id,
        input=parent.input,
        correlation_id=parent.correlation_id,
        traceparent=parent.traceparent,
        department=parent.department,
        automation=parent.automation,
        begun=row.what == "running",
    )
