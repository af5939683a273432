"""What a Celery worker's parent process does beside Celery: start clean, and say that it is there.

The parent opens neither a database connection nor a thread: it forks children for as long as it
lives, and both would be torn in half by that. It speaks to Redis only, and not for long.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger

log = get_logger(__name__)

#: How often a worker says that it is there, in seconds.
PRESENCE_SECONDS = 10.0


def prepare() -> None:
    """Close what start-up may have opened, before the pool forks; refuse a Redis that evicts.

    Raises SystemExit with one clear line for a wrong eviction policy. A Redis that is away is not
    an error: Celery waits for it.
    """
    from django.db import connections  # noqa: PLC0415 - this module is imported before setup()

    from orchestration import streams  # noqa: PLC0415 - same

    try:
        streams.check_policy()
    except streams.EvictionPolicyError as exc:
        raise SystemExit(f"error: {exc}") from exc
    except streams.AWAY as exc:
        log.warning("Redis is away, waiting for it: %s", exc)
    finally:
        streams.close()
        connections.close_all()


class PresenceStep(bootsteps.StartStopStep):
    """Tell every ten seconds, by the parent's own timer, which queues this worker serves."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self._entry: Any = None
        self._started_at = time.time()
        super().__init__(consumer, **kwargs)

    def start(self, consumer: Any) -> None:
        """Begin to tell; called again after each reconnection to the broker."""
        self._say(consumer)
        self._entry = consumer.timer.call_repeatedly(PRESENCE_SECONDS, self._say, (consumer,))

    def stop(self, consumer: Any) -> None:
        """Stop telling, and say goodbye so that nobody counts on this worker."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        self._say(consumer, leaving=True)

    def shutdown(self, consumer: Any) -> None:
        """Say goodbye at the end of the process."""
        self.stop(consumer)

    def _say(self, consumer: Any, *, leaving: bool = False) -> None:
        from orchestration import streams  # noqa: PLC0415 - settings must be ready first

        try:
            client = streams.client(reply_seconds=streams.QUICK_SECONDS)
            # The server's clock, so that the age is right whatever the worker's machine believes.
            seconds, micros = client.time()
            said = {
                "pid": os.getpid(),
                "queues": sorted(consumer.app.amqp.queues.consume_from),
                "concurrency": consumer.pool.num_processes if consumer.pool else 0,
                "uptime": time.time() - self._started_at,
                "at": seconds + micros / 1e6,
                "leaving": leaving,
            }
            client.hset(streams.WORKERS, consumer.hostname, json.dumps(said))
        except Exception as exc:  # noqa: BLE001 - presence must never disturb the worker
            log.debug("could not say that this worker is there: %s", exc)
