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

from orchestration import breakers, messages, routing, streams

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
#: How long it is believed that a queue is backed up, and that it is short, in seconds. Each message
#: sent to it is answered with its length, so a short one is not asked for that alone.
BELIEF_SECONDS, SHORT_BELIEF_SECONDS = 0.05, 1.0


class Look(NamedTuple):
    """Whether a queue was backed up, and when that was seen."""

    backed_up: bool
    at: float

    @property
    def is_old(self) -> bool:
        """Return whether the queue is to be looked at again."""
        believed = BELIEF_SECONDS if self.backed_up else SHORT_BELIEF_SECONDS
        return time.monotonic() - self.at > believed


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
        #: Since when nothing could be sent, on the monotonic clock; 0 while it can.
        self._paused_at = 0.0
        #: Queue -> what was last seen of it; a plain dict, read and replaced by any thread.
        self._looks: dict[str, Look] = {}

    @property
    def is_open(self) -> bool:
        """Return whether the last error is long enough ago to try again."""
        return time.monotonic() >= self._closed_until

    def publish(self, steps: Sequence[ReadyStep], *, spread: int | None = None) -> None:
        """Send hints if that works at once; what was not sent is found by the dispatcher."""
        if not self.is_open:
            return
        try:
            self.send(steps, spread=routing.SPREAD_MESSAGES if spread is None else spread)
        except BrokerAwayError as exc:
            log.warning("publishing_paused", seconds=BREAK_SECONDS, reason=str(exc))

    def is_backed_up(self, queue: str) -> bool:
        """Return whether what is added had better wait in the database, in line by priority.

        So it is while the queue holds more than BACKLOG_MESSAGES or a line stands before it, as
        last seen, and while nothing can be sent. The dispatcher is told, and looks
        at once.
        """
        if not self.is_open:
            return True
        known = self._looks.get(queue)
        if known is None or known.is_old:
            try:
                depth, line = streams.backlog(queue, reply_seconds=streams.QUICK_SECONDS)
                return self._note(queue, backed_up=line or depth > BACKLOG_MESSAGES)
            except (redis.RedisError, OSError) as exc:
                self._pause()
                reason = f"{type(exc).__name__}: {exc}"
                log.warning("publishing_paused", seconds=BREAK_SECONDS, reason=reason)
                return True
        return known.backed_up

    def send(
        self,
        steps: Sequence[ReadyStep],
        *,
        spread: int = routing.SPREAD_MESSAGES,
        first: bool = False,
    ) -> None:
        """Send hints or raise BrokerAwayError; some may have been sent even then.

        spread: how many messages of a queue carry one StepRun each before any carries two.
        first: to be taken before what stands in the queue.
        """
        self._send(
            (
                (queue, messages.EXECUTE, {"step_run_ids": ids})
                for queue, ids in routing.messages(steps, spread=spread)
            ),
            first=first,
        )

    def notify_dead_letters(self, dead_letter_ids: Sequence[int]) -> None:
        """Ask the dead letter worker to announce these; raises BrokerAwayError."""
        self._send(
            (routing.DEAD_LETTER, messages.NOTIFY_DEAD_LETTER, {"dead_letter_id": found})
            for found in dead_letter_ids
        )

    def _send(
        self, batch: Iterable[tuple[str, str, dict[str, Any]]], *, first: bool = False
    ) -> None:
        by_queue: dict[str, list[str]] = {}
        for queue, task, kwargs in batch:
            by_queue.setdefault(queue, []).append(messages.encode(task, kwargs, queue=queue))
        if not by_queue:
            return
        try:
            client = streams.client(reply_seconds=streams.QUICK_SECONDS)
            for queue, encoded in by_queue.items():
                # Workers take from the right: what is to be taken first is put there, last first.
                push = client.rpush if first else client.lpush
                line = encoded[::-1] if first else encoded
                for start in range(0, len(line), BATCH_MESSAGES):
                    depth = push(queue, *line[start : start + BATCH_MESSAGES])
                if depth > BACKLOG_MESSAGES:
                    self._note(queue, backed_up=True)
        except (redis.RedisError, OSError) as exc:
            self._pause()
            raise BrokerAwayError(f"{type(exc).__name__}: {exc}") from exc
        self._closed_until = 0.0
        if self._paused_at:
            paused = round(time.monotonic() - self._paused_at, 1)
            self._paused_at = 0.0
            log.info("publishing_resumed", paused_seconds=paused)

    def _pause(self) -> None:
        """Open the breaker, or keep it open."""
        now = time.monotonic()
        self._closed_until = now + BREAK_SECONDS
        if not self._paused_at:
            self._paused_at = now
            breakers.OPENED.labels(breakers.PUBLISHING).inc()

    def _note(self, queue: str, *, backed_up: bool) -> bool:
        """Remember a look at a queue; when it is backed up, the dispatcher has work from now on."""
        known = self._looks.get(queue)
        fresh = known is not None and known.backed_up and not known.is_old
        self._looks[queue] = Look(backed_up, time.monotonic())
        if backed_up and not fresh:
            streams.client(reply_seconds=streams.QUICK_SECONDS).publish(streams.WAKE, queue)
        return backed_up


publisher = Publisher()
