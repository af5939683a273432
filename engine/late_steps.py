"""Find the steps that are ready or sent for too long, a page at a time, never the whole backlog."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine import sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

#: Steps read in one go, per lane and priority.
PAGE = 1000
BEGINNING = (datetime.fromisoformat("1970-01-01T00:00:00+00:00"), 0)

# A step down the index steprun_ready (lane, priority desc, ready_at) for each priority in use.
PRIORITIES = """
WITH RECURSIVE used AS (
    SELECT l.slug AS lane, (SELECT max(s.priority) FROM engine_steprun s
        WHERE s.lane = l.slug AND s.state = 'ready') AS priority FROM engine_lane l
    UNION ALL
    SELECT u.lane, (SELECT max(s.priority) FROM engine_steprun s
        WHERE s.lane = u.lane AND s.state = 'ready' AND s.priority < u.priority)
    FROM used u WHERE u.priority IS NOT NULL)
SELECT lane, priority FROM used WHERE priority IS NOT NULL
"""
# Both go on where the last turn stopped, a page at a time, along their partial index: (lane,
# priority, ready_at) and (lane, dispatched_at) are the prefix that the condition fixes, so a turn
# reads its page and never the backlog. Running rows stand in the second index too; they are few.
LATE_READY = """
SELECT c.n, s.id, s.run_id, s.queue, s.ready_at AS at
FROM unnest(%(lanes)s::text[], %(priorities)s::smallint[], %(moments)s::timestamptz[],
    %(ids)s::bigint[]) WITH ORDINALITY AS c(lane, priority, moment, id, n)
CROSS JOIN LATERAL (
    SELECT s.id, s.run_id, s.queue, s.ready_at FROM engine_steprun s
    WHERE s.state = 'ready' AND s.lane = c.lane AND s.priority = c.priority
      AND (s.ready_at, s.id) > (c.moment, c.id)
      AND s.ready_at < clock_timestamp() - make_interval(secs => %(patience)s)
    ORDER BY s.ready_at, s.id LIMIT %(limit)s) s
ORDER BY c.n, s.ready_at, s.id
"""
LATE_QUEUED = """
SELECT c.n, s.id, s.run_id, s.queue, s.dispatched_at AS at
FROM unnest(%(lanes)s::text[], %(moments)s::timestamptz[], %(ids)s::bigint[])
    WITH ORDINALITY AS c(lane, moment, id, n)
CROSS JOIN LATERAL (
    SELECT s.id, s.run_id, s.queue, s.dispatched_at FROM engine_steprun s
    WHERE s.state = 'queued' AND s.claim IS NULL AND s.lane = c.lane
      AND (s.dispatched_at, s.id) > (c.moment, c.id)
      AND s.dispatched_at < clock_timestamp() - make_interval(secs => %(patience)s)
    ORDER BY s.dispatched_at, s.id LIMIT %(limit)s) s
ORDER BY c.n, s.dispatched_at, s.id
"""


class LateSteps:
    """Walk along the ready and the sent steps by age; each is met once, unless it is sent again.

    A step that turns ready or is sent goes to the end, so going on where the last page stopped
    meets every one of them.
    """

    def __init__(self) -> None:
        self._cursors: dict[tuple[str, int | None], tuple[datetime, int]] = {}

    def read(self, *, lanes: Sequence[str], patience_seconds: float) -> list[tuple[UUID, str]]:
        """Return (run, queue) of the next steps that wait for longer than this, each once."""
        classes = [(row.lane, row.priority) for row in sql.rows(PRIORITIES)]
        sent: list[tuple[str, int | None]] = [(lane, None) for lane in lanes]
        late: dict[tuple[UUID, str], None] = {}
        for statement, places in ((LATE_READY, classes), (LATE_QUEUED, sent)):
            for row in self._page(statement, places, patience_seconds):
                self._cursors[places[row.n - 1]] = (row.at, row.id)
                late[row.run_id, row.queue] = None
        return list(late)

    def _page(
        self, statement: str, places: Sequence[tuple[str, int | None]], patience_seconds: float
    ) -> list[Any]:
        starts = [self._cursors.get(place, BEGINNING) for place in places]
        values = {
            "lanes": [lane for lane, _priority in places],
            "priorities": [priority for _lane, priority in places],
            "moments": [at for at, _id in starts],
            "ids": [identity for _at, identity in starts],
            "patience": patience_seconds,
            "limit": PAGE,
        }
        return sql.rows(statement, values) if places else []
