"""What web shows on /metrics beside its own counters: its pool, and the manager's last sample."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, connections
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from config.probes import HEALTHY, Answer, Prober
from orchestration import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

#: Set where several web processes count in files of one folder.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Mirror:
    """The manager's last sample, read beside the requests: a Redis that hangs holds up none."""

    def __init__(self) -> None:
        self._found: tuple[metrics.Sample, float] | None = None
        self.prober = Prober({"sample": self._look})

    def read(self) -> tuple[metrics.Sample, float] | None:
        """Return the sample and its age in seconds, unless it is too old to say anything."""
        self.prober.answers()
        if self._found is None:
            return None
        sample, taken_at = self._found
        age = time.monotonic() - taken_at
        return (sample, age) if age <= metrics.MAX_SAMPLE_AGE_SECONDS else None

    def _look(self) -> Answer:
        found = metrics.kept()
        if found is not None:
            sample, age = found
            self._found = sample, time.monotonic() - age
        return Answer(HEALTHY)


class Pool(Collector):
    """The connections of this process's pool; nothing where there is none."""

    def collect(self) -> Iterable[Metric]:
        """Yield one value a state, from memory."""
        pool = getattr(connections[DEFAULT_DB_ALIAS], "pool", None)
        family = GaugeMetricFamily(
            "db_connection_pool", "Connections of web's pool to the database", labels=["state"]
        )
        if pool is not None:
            found = pool.get_stats()
            idle = found["pool_available"]
            family.add_metric(["idle"], idle)
            family.add_metric(["used"], found["pool_size"] - idle)
            family.add_metric(["waiting"], found.get("requests_waiting", 0))
            family.add_metric(["max"], found["pool_max"])
        yield family

    def describe(self) -> Iterable[Metric]:
        """Name nothing: registering must not make a pool."""
        return []


mirror = Mirror()
_ours = (metrics.MirrorCollector(mirror.read), Pool())


def registry() -> CollectorRegistry:
    """Return all that web shows: of this process, or added up over those of its folder."""
    found = CollectorRegistry()
    if FOLDER_VARIABLE in os.environ:
        MultiProcessCollector(found)
    else:
        found.register(REGISTRY)
    for collector in _ours:
        found.register(collector)
    return found
