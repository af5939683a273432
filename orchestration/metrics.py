"""The gauges of queues, streams, workers and dead letters: taken once, shown in two places.

The manager that holds the lock takes a sample and leaves it in Redis; its own /metrics shows the
one in memory, web mirrors the one in Redis together with its age.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import redis
from prometheus_client import disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestration import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

# A second series for each counter, of the moment at which it was first counted: nobody asks for it.
disable_created_metrics()

#: Name -> (help, labels). Names are fixed by CONTRACT §4.
GAUGES: dict[str, tuple[str, list[str]]] = {
    "redis_stream_lag_seconds": (
        "Age of the oldest entry of the stream that the group has not finished",
        ["stream", "group"],
    ),
    "redis_stream_pending": ("Entries delivered and not acknowledged", ["stream", "group"]),
    "queue_depth": ("Work waiting: steps or messages that a worker could begin", ["queue"]),
    "queue_oldest_age_seconds": ("Age of the oldest step that a worker could begin", ["queue"]),
    "workers_online": ("Worker processes that serve the queue", ["queue"]),
    "dead_letters": ("Dead letters by state", ["department", "state"]),
    "db_connections": ("Connections to the database", ["state"]),
    "redis_memory_ratio": ("Memory used of maxmemory; without one, of the machine's memory", []),
    "redis_eviction_ok": ("1 when Redis refuses writes when full instead of dropping queues", []),
    "runs_stuck": ("Open runs in which nothing is under way or waited for", []),
    "backup_age_seconds": ("Age of the newest backup; without one, of the installation", []),
}
#: A sample older than this is not shown: its manager is gone and nobody took over, in seconds.
MAX_SAMPLE_AGE_SECONDS = 60.0


@dataclass(slots=True)
class Sample:
    """Values of the gauges at one moment: (name, label values, value)."""

    values: list[tuple[str, list[str], float]] = field(default_factory=list)

    def add(self, name: str, value: float, *labels: str) -> None:
        """Add one value; the name must be one of GAUGES and have that many labels."""
        if len(GAUGES[name][1]) != len(labels):
            raise ValueError(f"{name} has the labels {GAUGES[name][1]}")
        self.values.append((name, list(labels), float(value)))

    def families(self) -> Iterator[Metric]:
        """Yield what Prometheus reads."""
        found = {
            name: GaugeMetricFamily(name, text, labels=labels)
            for name, (text, labels) in GAUGES.items()
        }
        for name, labels, value in self.values:
            if name in found:
                found[name].add_metric(labels, value)
        yield from found.values()


def keep(sample: Sample) -> None:
    """Leave a sample in Redis for web, stamped with the server's clock."""
    client = streams.client()
    seconds, micros = client.time()
    said = {"at": seconds + micros / 1e6, "values": sample.values}
    client.set(streams.METRICS_SAMPLE, json.dumps(said), ex=int(MAX_SAMPLE_AGE_SECONDS))


def kept() -> tuple[Sample, float] | None:
    """Return the sample kept in Redis and its age in seconds; None when there is none."""
    client = streams.client(reply_seconds=streams.QUICK_SECONDS)
    try:
        raw = cast("bytes | None", client.get(streams.METRICS_SAMPLE))
        seconds, micros = client.time()
        if raw is None:
            return None
        said: dict[str, Any] = json.loads(raw)
        sample = Sample([(name, labels, value) for name, labels, value in said["values"]])
    except (redis.RedisError, ValueError, KeyError, TypeError):
        return None
    return sample, max(0.0, seconds + micros / 1e6 - float(said["at"]))


class MirrorCollector(Collector):
    """What web registers: the manager's last sample and how old it is."""

    def __init__(self, read: Callable[[], tuple[Sample, float] | None] = kept) -> None:
        """Take how to come by the sample and its age."""
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Yield the mirrored gauges; nothing at all when nobody samples."""
        found = self._read()
        if found is None:
            return
        sample, age = found
        yield from sample.families()
        yield GaugeMetricFamily(
            "manager_sample_age_seconds", "Age of the mirrored gauges", value=age
        )

    def describe(self) -> Iterable[Metric]:
        """Name nothing: registering must not ask Redis."""
        return []
