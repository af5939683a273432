"""The only room that sends tasks. Losing a message costs a second, waiting for Redis costs a step.

Two ways: `publish` (best effort, for the fast path: never raises, never waits long, stops trying
for a while after an error) and `send` (for the dispatcher, whose transaction must know). Whoever
adds work asks `is_backed_up` first: behind a backlog it is the dispatcher that sends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

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
#: More messages than this in a queue are a backlog: what is added waits in the database.
BACKLOG_MESSAGES = 8
#: A queue that was backed up is asked for its length again after this, in seconds.
BACKLOG_SECONDS = 0.05


class Depth(NamedTuple):
    """How many messages a queue held, and when that was seen."""

    messages: int
    at: float


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
        #: Queue -> what was last seen of it; a plain dict, read and replaced by any thread.
        self._depths: dict[str, Depth] = {}

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

    def is_backed_up(self, queue: str) -> bool:
        """Return whether what is added had better wait in the database, in line by priority.

        So it is while the queue holds more than BACKLOG_MESSAGES, as of at most BACKLOG_SECONDS
        ago, and while nothing can be sent. The dispatcher is told, and looks at once.
        """
        if not self.is_open:
            return True
        known = self._depths.get(queue)
        if known is None or known.messages <= BACKLOG_MESSAGES:
            return False
        if time.monotonic() - known.at > BACKLOG_SECONDS:
            try:
                client = streams.client(reply_seconds=streams.QUICK_SECONDS)
                self._note(client, queue, client.llen(queue))
            except (redis.RedisError, OSError):
                self._closed_until = time.monotonic() + BREAK_SECONDS
                return True
        return self._depths[queue].messages > BACKLOG_MESSAGES

    def send(self, steps: Sequence[ReadyStep], *, spread: int = routing.SPREAD_MESSAGES) -> None:
        """Send hints or raise BrokerAwayError; some may have been sent even then.

        spread: how many messages of a queue carry one StepRun each before any carries two.
        """
        self._send(
            (queue, messages.EXECUTE, {"step_run_ids": ids})
            for queue, ids in routing.messages(steps, spread=spread)
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
                    depth = client.lpush(queue, *encoded[start : start + BATCH_MESSAGES])
                self._note(client, queue, depth)
        except (redis.RedisError, OSError) as exc:
            self._closed_until = time.monotonic() + BREAK_SECONDS
            raise BrokerAwayError(f"{type(exc).__name__}: {exc}") from exc
        self._closed_until = 0.0

    def _note(self, client: redis.Redis, queue: str, messages: int) -> None:
        """Remember the length of a queue; when it is long, the dispatcher has work from now on."""
        now = time.monotonic()
        known = self._depths.get(queue)
        self._depths[queue] = Depth(messages, now)
        if messages > BACKLOG_MESSAGES and not (
            known and known.messages > BACKLOG_MESSAGES and now - known.at < BACKLOG_SECONDS
        ):
            client.publish(streams.WAKE, queue)


publisher = Publisher()
