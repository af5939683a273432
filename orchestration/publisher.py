"""The only room that sends tasks. Losing a message costs a second, waiting for Redis costs a step.

Two ways: `publish` (best effort, for the fast path: never raises, never waits long, stops trying
for a while after an error) and `send` (for the dispatcher, whose transaction must know).
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import redis
import structlog
from celery import current_app
from kombu import Connection, Queue

from orchestration import messages, routing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.publishing import ReadyStep

log = structlog.get_logger(__name__)

#: After an error the fast path does not try for this long; the manager's dispatcher goes on trying.
BREAK_SECONDS = 2.0
#: Most a publisher waits for Redis or for another thread's turn, in seconds.
PATIENCE_SECONDS = 0.5
#: Messages per pipeline.
BATCH_MESSAGES = 500
#: `repr` of the arguments in Celery's headers: nobody reads it, and it is 10 % of the cost.
NO_REPR = "-"


class BrokerAwayError(Exception):
    """Say that messages could not be sent, or that it is unknown whether they were."""


class CeleryPublisher:
    """One producer on one connection of its own, guarded by a lock; survives a fork by renewal."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Begin afresh; in a forked child nothing of the parent's may be touched, not even closed.

        The old producer is kept alive in the child on purpose: collecting it would talk to sockets
        that belong to the parent.
        """
        self._inherited = getattr(self, "_producer", None)
        self._lock = threading.Lock()
        # Any: the stubs know neither batches nor what a Redis channel is.
        self._producer: Any = None
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
            [
                (messages.EXECUTE, queue, messages.Execute(step_run_ids=ids))
                for queue, ids in routing.messages(steps)
            ]
        )

    def notify_dead_letters(self, dead_letter_ids: Sequence[int]) -> None:
        """Ask the dead letter worker to announce these; raises BrokerAwayError."""
        self._send(
            [
                (
                    messages.NOTIFY_DEAD_LETTER,
                    routing.DEAD_LETTER,
                    messages.NotifyDeadLetter(dead_letter_id=found),
                )
                for found in dead_letter_ids
            ]
        )

    def _send(self, batch: list[tuple[str, str, Any]]) -> None:
        if not batch:
            return
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            raise BrokerAwayError("another thread has been waiting for Redis")
        try:
            was_connected = self._producer is not None
            try:
                self._transmit(batch)
            except Exception as first:
                # A connection that Redis dropped while we were idle fails once and then works.
                if not was_connected or _is_timeout(first):
                    raise
                self._drop()
                self._transmit(batch)
        except Exception as exc:
            self._drop()
            self._closed_until = time.monotonic() + BREAK_SECONDS
            raise BrokerAwayError(f"{type(exc).__name__}: {exc}") from exc
        finally:
            self._lock.release()
        self._closed_until = 0.0

    def _transmit(self, batch: list[tuple[str, str, Any]]) -> None:
        producer = self._producer or self._connect()
        if len(batch) == 1:
            self._apply(producer, *batch[0])
            return
        with producer.batch(BATCH_MESSAGES):
            for task, queue, kwargs in batch:
                self._apply(producer, task, queue, kwargs)

    @staticmethod
    def _apply(producer: Any, task: str, queue: str, kwargs: Any) -> None:
        current_app.send_task(
            task,
            kwargs=kwargs,
            # An object, not a name: a department that is no longer declared has rows too.
            queue=cast("Any", Queue(queue)),
            producer=producer,
            # Direct queues need no declaration, and the lock above is no place for one.
            declare=[],
            # Retrying inside would hide the pause that the circuit breaker is for.
            retry=False,
            argsrepr=NO_REPR,
            kwargsrepr=NO_REPR,
            add_to_parent=False,
            ignore_result=True,
        )

    def _connect(self) -> Any:
        """Open a connection with timeouts for somebody who must not wait.

        Workers wait on theirs for messages; with their 10 s a frozen Redis would hold up each step.
        """
        connection: Connection = current_app.connection_for_write(
            transport_options={
                "socket_timeout": PATIENCE_SECONDS,
                "socket_connect_timeout": PATIENCE_SECONDS,
                "health_check_interval": 0,
                "client_name": "automation-publisher",
                # 0 would mean for ever.
                "max_retries": 1,
                "interval_start": 0,
                "interval_max": 0,
            }
        )
        try:
            producer = current_app.amqp.Producer(connection.default_channel, auto_declare=False)
        except BaseException:
            connection.release()
            raise
        self._producer = producer
        return producer

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.channel.connection.client.release()

    def close(self) -> None:
        """Close the connection (before a fork, at the end of a process)."""
        with self._lock:
            self._drop()


def _is_timeout(error: BaseException | None) -> bool:
    """Return whether an error, or one behind it, says that Redis did not answer in time."""
    while error is not None:
        if isinstance(error, (TimeoutError, redis.TimeoutError)):
            return True
        error = error.__cause__ or error.__context__
    return False


publisher = CeleryPublisher()
