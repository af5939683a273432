"""The manager process: loops as threads, signals, health, and an end within five seconds."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import redis
import structlog
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestration import repairs, status, streams
from orchestration.manager import counters, outages
from orchestration.manager.access import Access
from orchestration.manager.broker_epoch import BrokerEpochLoop
from orchestration.manager.dispatcher import Dispatcher
from orchestration.manager.events import Events
from orchestration.manager.gauges import Gauges
from orchestration.manager.http import Server
from orchestration.manager.outbox import Outbox
from orchestration.manager.presence import Presence
from orchestration.manager.reaper import Reaper
from orchestration.manager.schedules import Schedules
from orchestration.manager.sealing import Sealing
from orchestration.manager.statistics import Statistics
from orchestration.manager.timers import Timers
from orchestration.manager.waits import Waits
from orchestration.manager.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from orchestration.manager.loop import Loop

log = structlog.get_logger(__name__)

#: Loops get this long to finish their tick after SIGTERM; together with the rest below 5 s.
DRAIN_SECONDS = 4.0
#: How often the manager tells the others how it is, in seconds.
TELL_SECONDS = 2.0


class PortInUseError(Exception):
    """Say that the port of the health server belongs to somebody else."""


class Service(Collector):
    """A manager. Any number may run: of each exclusive loop one works, the others stand by."""

    def __init__(
        self,
        *,
        instance: int,
        address: str,
        port: int,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.name = f"{socket.gethostname()}-{instance}"
        self.stop = threading.Event()
        self._gauges = Gauges(stop=self.stop)
        self.loops: list[Loop] = [
            Events(stop=self.stop, consumer=self.name),
            Dispatcher(stop=self.stop),
            Timers(stop=self.stop),
            Schedules(stop=self.stop),
            Reaper(stop=self.stop),
            BrokerEpochLoop(stop=self.stop),
            Outbox(stop=self.stop),
            Presence(stop=self.stop),
            Waits(stop=self.stop),
            Sealing(stop=self.stop),
            Webhooks(stop=self.stop),
            Statistics(stop=self.stop),
            Access(stop=self.stop),
            self._gauges,
        ]
        self._registry = registry
        try:
            self.server = Server(address=address, port=port, health=self.health, registry=registry)
        except OSError as exc:
            raise PortInUseError(f"cannot listen on {address}:{port}: {exc.strerror}") from exc

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; raises EvictionPolicyError when Redis would drop queues."""
        self._check_policy()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._registry.register(self)
        counters.prepare()
        repairs.prepare()
        self.server.start()
        threads = [
            threading.Thread(target=loop.run, name=f"loop-{loop.name}", daemon=True)
            for loop in self.loops
        ]
        for thread in threads:
            thread.start()
        log.info("manager_started", name=self.name, port=self.server.port, pid=os.getpid())
        self._tell()
        while not self.stop.wait(TELL_SECONDS):
            self._tell()
        self._end(threads)

    def health(self) -> dict[str, Any]:
        """Return what /health shows, from memory."""
        loops = {loop.name: loop.status() for loop in self.loops}
        away = outages.current()
        degraded = bool(away) or any(found["state"] in status.TROUBLED for found in loops.values())
        return {
            "status": status.DEGRADED if degraded else status.HEALTHY,
            "name": self.name,
            "stopping": self.stop.is_set(),
            "loops": loops,
            "repairs": repairs.shown(),
            "dependencies": {
                name: {"ok": name not in away, "away_seconds": round(away.get(name, 0.0), 1)}
                for name in (outages.DATABASE, outages.BROKER)
            },
        }

    def collect(self) -> Iterable[Metric]:
        """Yield this manager's gauges, and the installation's while it is the one that samples."""
        age = max(loop.heartbeat_age for loop in self.loops)
        yield GaugeMetricFamily(
            "manager_heartbeat_age_seconds", "Age of the oldest heartbeat of a loop", value=age
        )
        active = GaugeMetricFamily(
            "manager_loop_active", "1 while this manager runs the loop", labels=["loop"]
        )
        for loop in self.loops:
            active.add_metric([loop.name], 1.0 if loop.state == "working" else 0.0)
        yield active
        reached = GaugeMetricFamily(
            "manager_dependency_up", "1 while this manager reaches it", labels=["dependency"]
        )
        away = outages.current()
        for label, name in (("database", outages.DATABASE), ("redis", outages.BROKER)):
            reached.add_metric([label], 0.0 if name in away else 1.0)
        yield reached
        if self._gauges.sample is not None:
            yield from self._gauges.sample.families()

    def describe(self) -> Iterable[Metric]:
        """Name nothing: the families depend on who holds the lock."""
        return []

    def _check_policy(self) -> None:
        try:
            streams.check_policy()
        except redis.RedisError as exc:
            # Not an error: it may come later than we do.
            outages.begin(outages.BROKER, exc)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        log.info("manager_stopping", signal=signal.Signals(number).name)
        self.stop.set()

    def _tell(self) -> None:
        found = self.health()
        try:
            status.tell(
                name=self.name,
                status=found["status"],
                loops=found["loops"],
                repairs=found["repairs"],
            )
        except redis.RedisError:
            return  # the loops say it already

    def _end(self, threads: list[threading.Thread]) -> None:
        """Wait for the ticks under way; a loop that hangs in a dead dependency is left behind."""
        deadline = time.monotonic() + DRAIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [thread.name for thread in threads if thread.is_alive()]
        with contextlib.suppress(redis.RedisError):
            status.leave(name=self.name)
        self.server.shutdown()
        self.server.server_close()
        self._registry.unregister(self)
        log.info("manager_stopped", left_behind=late)
