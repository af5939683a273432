"""Take the sample of queues, streams, workers, dead letters and connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.db import connection

from engine import registry
from engine.models import WorkerPresence
from orchestration import metrics, routing, streams
from orchestration.manager.loop import Loop

if TYPE_CHECKING:
    import threading

# What more workers would begin: also the backlog that stands in line for its queue, but not what
# waits for a lane's limit or for an operator.
WAITING = """
SELECT s.queue, count(*), extract(epoch FROM clock_timestamp()
    - min(CASE s.state WHEN 'queued' THEN s.dispatched_at ELSE s.ready_at END))
FROM engine_steprun s JOIN engine_lane l ON l.slug = s.lane
WHERE (s.state = 'queued' AND s.claim IS NULL)
   OR (s.state = 'ready' AND NOT s.cancel_requested AND NOT l.paused AND l.max_concurrency IS NULL
       AND s.run_id NOT IN (SELECT r.id FROM engine_run r
           WHERE r.state IN ('paused', 'cancelling')))
GROUP BY s.queue
"""
ONLINE = """
SELECT queue, count(*) FROM engine_workerpresence, jsonb_array_elements_text(queues) AS queue
WHERE seen_at > clock_timestamp() - %s * interval '1 second' GROUP BY queue
"""
DEAD_LETTERS = "SELECT department, state, count(*) FROM engine_deadletter GROUP BY 1, 2"
CONNECTIONS = """
SELECT coalesce(state, 'unknown'), count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' GROUP BY 1
"""
# Nothing of the run can move by itself or by an operator who is waited for.
STUCK = """
SELECT count(*) FROM (
    SELECT 1 FROM engine_run r
    WHERE r.state IN ('pending', 'running', 'cancelling')
      AND r.created_at < clock_timestamp() - interval '1 min'
      AND NOT EXISTS (SELECT 1 FROM engine_steprun s WHERE s.run_id = r.id AND s.state IN
        ('ready', 'queued', 'running', 'retry_wait', 'sleeping', 'awaiting'))
    LIMIT 1000) stuck
"""
# What would be lost with the disk: there is no backup yet that could be younger.
INSTALLATION_AGE = """
SELECT GREATEST(COALESCE(extract(epoch FROM clock_timestamp() - min(applied)), 0), 0)::float8
FROM django_migrations
"""


class Gauges(Loop):
    """One sampler for all: the numbers are the installation's, not a process's."""

    name = "gauges"
    interval = 5.0

    def __init__(self, *, stop: threading.Event) -> None:
        super().__init__(stop=stop)
        self._sample: metrics.Sample | None = None

    @property
    def sample(self) -> metrics.Sample | None:
        """Return the last sample while this manager is the one that takes it."""
        return self._sample if self.state == "working" else None

    def tick(self) -> bool:
        """Take a sample and leave it for web."""
        sample = metrics.Sample()
        _database(sample)
        _redis(sample)
        self._sample = sample
        metrics.keep(sample)
        return False


def _rows(statement: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cast("list[tuple[Any, ...]]", cursor.fetchall())


def _database(sample: metrics.Sample) -> None:
    known = routing.queues(registry.departments)
    waiting = {queue: (count, age or 0.0) for queue, count, age in _rows(WAITING)}
    online = dict(_rows(ONLINE, [WorkerPresence.ONLINE_SECONDS]))
    depths = {queue: streams.depth(queue) for queue in {*known, *waiting}}
    for queue, depth in sorted(depths.items()):
        count, age = waiting.get(queue, (0, 0.0))
        # Messages carry several steps, and fetched ones are in no list: the larger is the truth.
        sample.add("queue_depth", max(count, depth), queue)
        sample.add("queue_oldest_age_seconds", float(age), queue)
        sample.add("workers_online", online.get(queue, 0), queue)
    for department, state, count in _rows(DEAD_LETTERS):
        sample.add("dead_letters", count, department, state)
    for state, count in _rows(CONNECTIONS):
        sample.add("db_connections", count, state)
    sample.add("runs_stuck", _rows(STUCK)[0][0])
    sample.add("backup_age_seconds", _rows(INSTALLATION_AGE)[0][0])


def _redis(sample: metrics.Sample) -> None:
    status = streams.status()
    sample.add("redis_stream_lag_seconds", status.lag_seconds, streams.EVENTS, streams.GROUP)
    sample.add("redis_stream_pending", status.pending, streams.EVENTS, streams.GROUP)
    sample.add("queue_depth", status.undelivered + status.pending, streams.EVENTS)
    memory = streams.client().info("memory")
    # Without a limit of its own Redis grows until the machine has no more.
    limit = int(memory.get("maxmemory", 0)) or int(memory.get("total_system_memory", 0))
    sample.add("redis_memory_ratio", int(memory["used_memory"]) / limit if limit else 0.0)
    policy = memory.get("maxmemory_policy", "noeviction")
    sample.add("redis_eviction_ok", 1.0 if policy == "noeviction" else 0.0)
