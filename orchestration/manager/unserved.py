"""Say once that work waits in a queue that no worker serves, and once that this is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from django.db import connection

from engine import registry
from engine.models import WorkerPresence
from orchestration import routing

if TYPE_CHECKING:
    from collections.abc import Iterable

log = structlog.get_logger(__name__)

#: A worker that is being restarted is back within this, in seconds.
PATIENCE_SECONDS = 4.0

#: More waiting steps than this are not counted.
COUNTED_STEPS = 10_000

# Along the partial indexes of what is ready and of what was sent, lane by lane; planners, which are
# in every lane and in a queue of their own, along theirs.
WAITING = """
SELECT queue, LEAST(count(*), %(most)s) FROM (
    SELECT l.queue FROM engine_lane l CROSS JOIN LATERAL (
        SELECT 1 FROM engine_steprun s
        WHERE s.lane = l.slug AND s.queue = l.queue AND s.state = 'ready'
        LIMIT %(most)s) s
    WHERE l.queue = ANY(%(queues)s)
    UNION ALL
    SELECT l.queue FROM engine_lane l CROSS JOIN LATERAL (
        SELECT 1 FROM engine_steprun s
        WHERE s.lane = l.slug AND s.queue = l.queue AND s.state IN ('queued', 'running')
          AND s.state = 'queued' AND s.claim IS NULL
        LIMIT %(most)s) s
    WHERE l.queue = ANY(%(queues)s)
    UNION ALL
    (SELECT queue FROM engine_steprun
    WHERE queue = 'orchestrator' AND state IN ('ready', 'queued') AND claim IS NULL
      AND 'orchestrator' = ANY(%(queues)s)
    LIMIT %(most)s)) waiting
GROUP BY queue
"""
SERVED = """
SELECT DISTINCT jsonb_array_elements_text(queues) FROM engine_workerpresence
WHERE seen_at > clock_timestamp() - %s * interval '1 second'
"""


class Unserved:
    """Remember since when each queue with work has had no worker, and what was said of it."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def look(self) -> None:
        """Compare the queues of the catalog with what workers serve; count only where none does."""
        with connection.cursor() as cursor:
            cursor.execute(SERVED, [WorkerPresence.ONLINE_SECONDS])
            served = {queue for (queue,) in cursor.fetchall()}
            without = [q for q in routing.queues(registry.departments) if q not in served]
            waiting: dict[str, int] = {}
            if without:
                cursor.execute(WAITING, {"queues": without, "most": COUNTED_STEPS})
                waiting = dict(cursor.fetchall())
        self._note(waiting)
        self._end(queue for queue in list(self._said) if queue not in waiting)

    def _note(self, waiting: dict[str, int]) -> None:
        now = time.monotonic()
        self._since = {queue: self._since.get(queue, now) for queue in waiting}
        for queue, steps in waiting.items():
            if queue not in self._said and now - self._since[queue] >= PATIENCE_SECONDS:
                self._said[queue] = self._since[queue]
                log.warning("queue_without_worker", queue=queue, waiting_steps=steps)

    def _end(self, queues: Iterable[str]) -> None:
        for queue in queues:
            lasted = round(time.monotonic() - self._said.pop(queue), 1)
            log.warning("queue_without_worker_ended", queue=queue, lasted_seconds=lasted)
