"""Find out that this worker is connected and consumes nothing, and have it started again.

When nothing was heard for a while and there are idle children, the parent sends itself a message
through a queue of its own, read on the channel of its tasks. The queue is in no list of queues.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

import redis
import structlog
from celery import bootsteps
from celery.worker import state
from kombu import Consumer, Queue
from kombu.common import ignore_errors

from orchestration import messages
from orchestration.alarm import alarm
from orchestration.task_base import recycled_worker_hint

log = structlog.get_logger(__name__)

TASK = "orchestration.canary"
TICK_SECONDS = 1.0
#: After so much silence the canary is sent.
ASK_SECONDS = 5.0
#: After so much silence, with the canary unread, the worker is deaf. Longer than the 18 s in which
#: kombu notices a half-open connection by itself; that ends in a reconnection, which is cheaper.
DEAF_SECONDS = 25.0
#: A canary that nobody reads is gone after this.
EXPIRE_SECONDS = 60
#: What a supervisor sees: worth starting again.
EXIT_DEAF = os.EX_TEMPFAIL


def queue_name(hostname: str) -> str:
    """Return the list through which a worker speaks to itself."""
    return f"worker.{hostname}"


class CanaryStep(bootsteps.StartStopStep):
    """Listen for the canary beside the tasks; count silence by the loop's own timer."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self._entry: Any = None
        self._listener: Any = None
        self._heard = 0
        self._signs: tuple[int, int] = (0, 0)
        self._silent = 0.0
        self._sent = False
        self._ticked_at = 0.0
        super().__init__(consumer, **kwargs)

    def start(self, consumer: Any) -> None:
        """Begin to listen; called again after each reconnection to the broker."""
        # On the tasks' own channel: in kombu each channel has its own connection and its own BRPOP.
        self._listener = Consumer(
            consumer.task_consumer.channel,
            queues=[Queue(queue_name(consumer.hostname))],
            callbacks=[self._hear],
            accept=["json"],
            no_ack=True,
        )
        self._listener.consume()
        self._forget_silence()
        self._entry = consumer.timer.call_repeatedly(TICK_SECONDS, self._tick, (consumer,))
        alarm.tick()

    def stop(self, consumer: Any) -> None:
        """Stop listening and judging: the connection is gone, or the process ends."""
        alarm.rest()
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        if self._listener is not None:
            ignore_errors(consumer.connection, self._listener.cancel)
            self._listener = None

    def shutdown(self, consumer: Any) -> None:
        """Stop at the end of the process."""
        self.stop(consumer)

    def _hear(self, _body: Any, _message: Any) -> None:
        self._heard += 1

    def _forget_silence(self) -> None:
        self._silent, self._sent = 0.0, False
        self._ticked_at = time.monotonic()
        self._signs = (self._heard, state.all_total_count[0])

    def _tick(self, consumer: Any) -> None:
        """Measure the silence; ask when it is long, and give up when the answer does not come.

        Turns of the loop are counted, not the clock: a process that stood still heard nothing.
        """
        alarm.tick()
        signs = (self._heard, state.all_total_count[0])
        if signs != self._signs or len(state.active_requests) >= consumer.pool.num_processes:
            self._forget_silence()
            return
        now = time.monotonic()
        self._silent += min(now - self._ticked_at, 2 * TICK_SECONDS)
        self._ticked_at = now
        if self._silent >= DEAF_SECONDS:
            self._judge(consumer)
        elif self._silent >= ASK_SECONDS and not self._sent:
            self._ask(consumer)

    def _ask(self, consumer: Any) -> None:
        from orchestration import streams  # noqa: PLC0415 - settings must be ready first

        name = queue_name(consumer.hostname)
        try:
            client = streams.client(reply_seconds=streams.QUICK_SECONDS)
            with client.pipeline(transaction=True) as pipe:
                pipe.lpush(name, messages.encode(TASK, {}, queue=name))
                pipe.expire(name, EXPIRE_SECONDS)
                pipe.execute()
            self._sent = True
        except (*streams.AWAY, redis.RedisError):
            # Nobody hears anything while Redis is away, or so full that it takes nothing.
            self._forget_silence()

    def _judge(self, consumer: Any) -> None:
        """Recycle the worker when the silence is its own: a message waits and nobody takes it."""
        from orchestration import streams  # noqa: PLC0415 - settings must be ready first

        name = queue_name(consumer.hostname)
        fetched = len(state.reserved_requests) - len(state.active_requests)
        try:
            client = streams.client(reply_seconds=streams.QUICK_SECONDS)
            unread = client.llen(name)
        except (*streams.AWAY, redis.RedisError):
            self._forget_silence()
            return
        if fetched <= 0 and not unread:
            self._forget_silence()
            return
        reason = "no child begins what it has fetched" if fetched > 0 else "it reads no queue"
        log.critical("worker_deaf", reason=reason, silent_seconds=round(self._silent, 1))
        with contextlib.suppress(*streams.AWAY, redis.RedisError):
            hint = recycled_worker_hint(consumer.hostname, reason="deaf")
            client.rpush(streams.WORKERS_LOST, json.dumps(hint))
        self._forget_silence()
        alarm.end_within_grace()
        # A warm shutdown: what runs may end, what was fetched goes back.
        state.should_stop = EXIT_DEAF  # type: ignore[assignment] # None until then
