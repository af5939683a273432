"""What a Celery worker's parent process does beside Celery: start clean, and say how it is.

The parent opens neither a database connection nor a thread: it forks children for as long as it
lives, and both would be torn in half by that. It speaks to Redis only, and not for long.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger

from orchestration.alarm import alarm

log = get_logger(__name__)

#: After an error the next word waits so long, doubling up to the second, in seconds.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 5.0


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


class BoundedEnd(bootsteps.StartStopStep):
    """Begin the grace whatever ends the worker: a signal, a command, an error nobody foresaw."""

    def close(self, _controller: Any) -> None:
        """Start the clock, before any step of the worker is asked to stop."""
        alarm.end_within_grace()


class PresenceStep(bootsteps.StartStopStep):
    """Say, by the parent's own timer, which queues this worker serves and what it holds."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self._entry: Any = None
        self._started_at = time.monotonic()
        #: What the clock of Redis is ahead of our monotonic one, and when that was asked.
        self._ahead, self._asked_at = 0.0, -float("inf")
        self._had_work = False
        self._said_at = -float("inf")
        self._pause = 0.0
        super().__init__(consumer, **kwargs)

    def start(self, consumer: Any) -> None:
        """Begin to speak; called again after each reconnection to the broker."""
        from orchestration import presence  # noqa: PLC0415 - settings must be ready first

        self._say(consumer)
        self._entry = consumer.timer.call_repeatedly(presence.BUSY_SECONDS, self._look, (consumer,))

    def stop(self, consumer: Any) -> None:
        """Stop speaking, and say goodbye so that nobody counts on this worker."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        self._say(consumer, leaving=True)

    def shutdown(self, consumer: Any) -> None:
        """Say goodbye at the end of the process."""
        self.stop(consumer)

    def _look(self, consumer: Any) -> None:
        """Speak when there is work, when there was a second ago, or when it is time again."""
        from celery.worker import state  # noqa: PLC0415 - as small as can be before setup()

        from orchestration import presence  # noqa: PLC0415 - same

        silent = time.monotonic() - self._said_at
        if silent < self._pause:
            return
        due = silent >= presence.IDLE_SECONDS - presence.BUSY_SECONDS / 2
        if due or self._had_work or state.reserved_requests or state.active_requests:
            self._say(consumer)

    def _say(self, consumer: Any, *, leaving: bool = False) -> None:
        from orchestration import holdings, presence, streams  # noqa: PLC0415 - settings first

        self._said_at = time.monotonic()
        try:
            client = streams.client(reply_seconds=streams.QUICK_SECONDS)
            if self._said_at - self._asked_at >= presence.IDLE_SECONDS:
                self._ahead = presence.clock(client) - time.monotonic()
                self._asked_at = self._said_at
            now = holdings.current()
            word = presence.Word(
                pid=os.getpid(),
                queues=sorted(consumer.app.amqp.queues.consume_from),
                concurrency=consumer.pool.num_processes if consumer.pool else 0,
                uptime=time.monotonic() - self._started_at,
                at=time.monotonic() + self._ahead,
                leaving=leaving,
                busy=now.busy,
                held=now.held,
                waiting=now.waiting,
                cut=now.cut,
            )
            client.hset(streams.WORKERS, consumer.hostname, word.encode())
        except Exception as exc:  # noqa: BLE001 - presence must never disturb the worker
            self._pause = min(max(FIRST_PAUSE_SECONDS, self._pause * 2), LONGEST_PAUSE_SECONDS)
            log.debug("could not say that this worker is there: %s", exc)
        else:
            self._pause = 0.0
            self._had_work = word.has_work
