"""The only room that sends tasks. Losing a message costs a second, waiting for Redis costs a step.

Two ways: `publish` (best effort, for the fast path: never raises, never waits long, stops trying
for a while after an error) and `send` (for the dispatcher, whose transaction must know).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import redis
import structlog

from orchestration import messages, routing, streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.publishing import ReadyStep

log = structlog.get_logger(__name__)

#: After an error the fast path does not try for this long; the manager's dispatcher goes on trying.
BREAK_SECONDS = 2.0
#: Messages per command: a queue of 100,000 is no reason for one command of 70 MB.
BATCH_MESSAGES = 500


class BrokerAwayError(Exception):
    """Say that messages could not be sent, or that it is unknown whether they were."""


class Publisher:
    """Append encoded Celery messages to the lists that workers pop from.

    Not through `apply_async`: that costs four times the CPU (README), and its connections are made
    for consumers, who must wait. A test compares every message with Celery's own, key by key.
    Threads share the client's pool; a forked child gets new connections by itself.
    """

    def __init__(self) -> None:
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether the last error is long enough ago to try again."""
        return time.monotonic() >= self._closed_until

    def publish(self, steps: Sequence[ReadyStep]) -> None:
        """Send hints if that works at once; what was not sent is found by the dispatcher."""
        if not self.is_open:
            return
        try:
            self.send(steps)
        except BrokerAwayError as exc:
            log.warning("publishing_paused", seconds=BREAK_SECONDS, reason=str(exc))

    def send(self, steps: Sequence[ReadyStep]) -> None:
        """Send hints or raise BrokerAwayError; some may have been sent even then."""
        self._send(
            (queue, messages.EXECUTE, {"step_run_ids": ids})
            for queue, ids in routing.messages(steps)
        )

    def notify_dead_letters(self, dead_letter_ids: Sequence[int]) -> None:
        """Ask the dead letter worker to announce these; raises BrokerAwayError."""
        self._send(
            (routing.DEAD_LETTER, messages.NOTIFY_DEAD_LETTER, {"dead_letter_id": found})
            for found in dead_letter_ids
        )

    def _send(self, batch: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        by_queue: dict[str, list[str]] = {}
        for queue, task, kwargs in batch:
            by_queue.setdefault(queue, []).append(messages.encode(task, kwargs, queue=queue))
        if not by_queue:
            return
        try:
            client = streams.client(reply_seconds=streams.QUICK_SECONDS)
            for queue, encoded in by_queue.items():
                for start in range(0, len(encoded), BATCH_MESSAGES):
                    client.lpush(queue, *encoded[start : start + BATCH_MESSAGES])
        except (redis.RedisError, OSError) as exc:
            self._closed_until = time.monotonic() + BREAK_SECONDS
            raise BrokerAwayError(f"{type(exc).__name__}: {exc}") from exc
        self._closed_until = 0.0


publisher = Publisher()
