"""Between ready and queued, both ways, and out of the backoff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import sql
from engine.publishing import ReadyStep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

#: Below every priority there is.
LOWEST = -32768

#: Ready rows of held runs that a look at a lane passes over one by one. Where there are more of
#: them the look goes from run to run instead, which costs by the number of runs.
HELD_ROWS = 1000
# The run once for each row it has ready, HELD_ROWS at most.
HELD = f"""
SELECT r.id FROM engine_run r CROSS JOIN LATERAL (
    SELECT 1 FROM engine_steprun s
    WHERE s.lane = %(lane)s AND s.run_id = r.id AND s.state = 'ready' LIMIT {HELD_ROWS}) s
WHERE r.state IN ('paused', 'cancelling') LIMIT {HELD_ROWS}
"""
# Steps that were sent before and came back are sent first by age; priority above all. Runs are
# looked up, never joined: PostgreSQL would go from the few that are open to all steps of theirs.
TAKE = """
WITH mine AS MATERIALIZED (
    SELECT s.id, s.queue, s.alone, s.run_id FROM engine_steprun s
    WHERE s.lane = %(lane)s AND s.state = 'ready' AND NOT s.cancel_requested
      AND s.priority > %(above)s AND s.run_id <> ALL(%(held)s::uuid[])
    ORDER BY s.priority DESC, s.ready_at LIMIT %(limit)s
    FOR NO KEY UPDATE OF s SKIP LOCKED)
SELECT m.id, m.queue, m.alone FROM mine m
WHERE (SELECT r.state FROM engine_run r WHERE r.id = m.run_id) IN ('pending', 'running', 'blocked')
"""
#: From run to run along steprun_ready_of_run (lane, run, priority, ready_at); `lane` is SQL.
RUNS_WITH_READY = """
waiting AS (
    SELECT '00000000-0000-0000-0000-000000000000'::uuid AS run_id
    UNION ALL
    SELECT (SELECT s.run_id FROM engine_steprun s
        WHERE s.lane = {lane} AND s.state = 'ready' AND s.run_id > w.run_id
        ORDER BY s.run_id LIMIT 1)
    FROM waiting w WHERE w.run_id IS NOT NULL)
"""
TAKE_PAST_HELD = f"""
WITH RECURSIVE {RUNS_WITH_READY.format(lane="%(lane)s")},
open AS MATERIALIZED (
    SELECT w.run_id FROM waiting w WHERE (SELECT r.state FROM engine_run r WHERE r.id = w.run_id)
        IN ('pending', 'running', 'blocked')),
first AS MATERIALIZED (
    SELECT s.id FROM open o CROSS JOIN LATERAL (
        SELECT s.id, s.priority, s.ready_at FROM engine_steprun s
        WHERE s.lane = %(lane)s AND s.run_id = o.run_id AND s.state = 'ready'
          AND NOT s.cancel_requested AND s.priority > %(above)s
        ORDER BY s.priority DESC, s.ready_at LIMIT %(limit)s) s
    ORDER BY s.priority DESC, s.ready_at LIMIT %(limit)s)
SELECT s.id, s.queue, s.alone FROM engine_steprun s
WHERE s.id = ANY(ARRAY(SELECT id FROM first)) AND s.state || '' = 'ready'
  AND NOT s.cancel_requested
ORDER BY s.priority DESC, s.ready_at
FOR NO KEY UPDATE OF s SKIP LOCKED
"""
QUEUE = """
UPDATE engine_steprun SET state = 'queued', dispatched_at = clock_timestamp(),
    dispatches = LEAST(dispatches + 1, 30000)
WHERE id = ANY(%(ids)s) AND state || '' = 'ready'
"""
#: Rows handed back by one statement: 100,000 took 3.1 s, and the answer to a statement is bounded
#: (`engine.postgresql.bounded`). A large backlog takes several.
HAND_BACK_ROWS = 100_000
# Found first and put into the order of locks afterwards: with both in one PostgreSQL would rather
# read the whole table in that order than sort what an index finds.
# Held members of a chunk are queued with a claim: they are not lost, their lease decides.
HAND_BACK = """
WITH found AS MATERIALIZED (
    SELECT id FROM engine_steprun
    WHERE {which} AND state = 'queued' AND claim IS NULL LIMIT %(limit)s),
mine AS (
    SELECT id FROM engine_steprun
    WHERE id = ANY(ARRAY(SELECT id FROM found)) AND state || '' = 'queued' AND claim IS NULL
    ORDER BY id DESC FOR NO KEY UPDATE),
back AS (
    UPDATE engine_steprun s SET state = 'ready', ready_at = clock_timestamp()
    FROM mine WHERE s.id = mine.id
    RETURNING s.id, s.run_id, s.attempt)
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT run_id, id, 'step.released', attempt, %(actor)s,
    jsonb_build_object('reason', %(reason)s::text), clock_timestamp()
FROM back
"""
WAKE = """
WITH mine AS (
    SELECT id FROM engine_steprun
    WHERE state = 'retry_wait' AND next_at <= clock_timestamp() AND NOT cancel_requested
    ORDER BY next_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED)
UPDATE engine_steprun s
SET state = 'ready', ready_at = clock_timestamp(), next_at = NULL, dispatches = 0
FROM mine WHERE s.id = mine.id
"""


def take(*, lane: str, limit: int, above: int | None = None) -> list[ReadyStep]:
    """Lock the next ready rows of a lane until the transaction ends; above: a priority."""
    held = [row.id for row in sql.rows(HELD, {"lane": lane})]
    values = {"lane": lane, "limit": limit, "above": LOWEST if above is None else above}
    if len(held) < HELD_ROWS:
        found = sql.rows(TAKE, values | {"held": list(set(held))})
    else:
        found = sql.rows(TAKE_PAST_HELD, values)
    return [ReadyStep(row.id, row.queue, alone=row.alone) for row in found]


def queue(*, steps: Sequence[ReadyStep]) -> int:
    """Note that these locked rows have been sent."""
    return sql.count(QUEUE, {"ids": [step.id for step in steps]})


def hand_back(*, step_run_ids: Sequence[int], reason: str, actor: str = "") -> int:
    """Make queued rows ready again; their old message, should it still come, finds the same row."""
    which = "id = ANY(%(ids)s)"
    return _back(which, {"ids": list(step_run_ids)}, reason=reason, actor=actor)


def hand_back_of_run(*, run_id: Any, reason: str, actor: str) -> int:
    """Make the queued rows of a paused run ready again."""
    return _back("run_id = %(run)s", {"run": run_id}, reason=reason, actor=actor)


def hand_back_of_lane(*, lane: str, reason: str, actor: str) -> int:
    """Make the queued rows of a paused lane ready again."""
    return _back("lane = %(lane)s", {"lane": lane}, reason=reason, actor=actor)


def hand_back_sent_before(*, moment: datetime, reason: str) -> int:
    """Make ready again what was sent to a broker that has lost its memory since."""
    return _back("dispatched_at < %(moment)s", {"moment": moment}, reason=reason, actor="")


def wake_retries(*, limit: int) -> int:
    """Make steps ready whose backoff has run out."""
    return sql.count(WAKE, {"limit": limit})


def _back(which: str, values: dict[str, Any], *, reason: str, actor: str) -> int:
    statement = HAND_BACK.replace("{which}", which)
    total = 0
    while True:
        found = {**values, "reason": reason, "actor": actor, "limit": HAND_BACK_ROWS}
        moved = sql.count(statement, found)
        total += moved
        if moved < HAND_BACK_ROWS:
            return total
