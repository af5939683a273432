"""Read requests from `automation.events` as group `manager`: every good one becomes a run, once.

An entry is acknowledged when its run is committed. A malformed one moves to `automation.dlq` with
the reason. Nothing an entry contains can stop the consumer.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import redis
import structlog
from django.db import DataError, connection
from django.utils import timezone

from engine import runs, tracing
from engine.errors import EngineError
from orchestration import incoming, repairs, streams
from orchestration.manager import counters, outages
from orchestration.manager.loop import Loop
from orchestration.repairs import Repair

if TYPE_CHECKING:
    import threading

log = structlog.get_logger(__name__)

#: Entries read at once.
BATCH = 100
#: An entry that another consumer has held for so long is taken over, in seconds.
CLAIM_IDLE_SECONDS = 60.0
#: How often to look for such entries, in seconds.
CLAIM_EVERY_SECONDS = 5.0
#: An entry delivered more often than this is not tried again.
MAX_DELIVERIES = 5


class Events(Loop):
    """The consumer. Every manager runs one: the group shares the entries out."""

    name = "events"
    # Reading waits for entries by itself.
    interval = 0.0
    exclusive = False

    def __init__(
        self,
        *,
        stop: threading.Event,
        consumer: str,
        claim_idle_seconds: float = CLAIM_IDLE_SECONDS,
        claim_every_seconds: float = CLAIM_EVERY_SECONDS,
    ) -> None:
        super().__init__(stop=stop)
        self._consumer = consumer
        self._claim_idle_seconds = claim_idle_seconds
        self._claim_every_seconds = claim_every_seconds
        self._claimed_at = 0.0
        self._group_known = False
        #: Whether there was a group before: the first of an installation is no repair.
        self._group_seen = False
        #: Where our own backlog goes on; None when it has been read.
        self._backlog: str | None = "0"
        #: Read, and not handled yet because the database is away: not read again, which would
        #: count as a delivery.
        self._kept: deque[streams.Entry] = deque()
        #: Handled, and not acknowledged yet.
        self._done: list[str] = []

    def tick(self) -> bool:
        """Handle what is kept, then our backlog, then what others left, then what is new."""
        try:
            self._turn()
        except redis.ResponseError as exc:
            if not streams.is_group_missing(exc):
                raise
            log.warning("stream_group_missing", doing="creating it again, from the first entry")
            self._group_known = False
            self._kept.clear()
            self._done.clear()
            self._backlog = "0"
        return True

    def _turn(self) -> None:
        self._finish()
        if not self._group_known:
            if streams.ensure_group() and self._group_seen:
                repairs.note(Repair.STREAM_GROUP, stream=streams.EVENTS)
            self._group_known = self._group_seen = True
        # An entry must not be taken, and so counted, while nothing could be done with it.
        _check_database()
        if self._backlog is not None:
            entries = streams.read_backlog(
                consumer=self._consumer, count=BATCH, after=self._backlog
            )
            self._backlog = entries[-1].id if entries else None
            self._take(self._untired(entries))
            return
        if time.monotonic() - self._claimed_at > self._claim_every_seconds:
            self._claimed_at = time.monotonic()
            self._claim()
        self._take(streams.read_new(consumer=self._consumer, count=BATCH))

    def _claim(self) -> None:
        """Take over what a dead consumer, or a failed attempt of ours, has left."""
        position = "0-0"
        while True:
            position, entries, holes = streams.claim_idle(
                consumer=self._consumer,
                idle_seconds=self._claim_idle_seconds,
                count=BATCH,
                start=position,
            )
            repairs.note(Repair.STREAM_ENTRIES, len(entries), consumer=self._consumer)
            self._take(self._untired(entries))
            if holes:
                self._backlog = "0"
            if position == "0-0":
                return

    def _untired(self, entries: list[streams.Entry]) -> list[streams.Entry]:
        """Return the entries that may be tried again; the others are refused here."""
        counts = streams.deliveries([entry.id for entry in entries])
        good = []
        for entry in entries:
            delivered = counts.get(entry.id, 0)
            if delivered > MAX_DELIVERIES and entry.fields is not None:
                reason = f"delivered {delivered} times and never handled"
                _refuse(entry, code="delivered_too_often", reason=reason)
            else:
                good.append(entry)
        return good

    def _take(self, entries: list[streams.Entry]) -> None:
        self._kept.extend(entries)
        self._finish()

    def _finish(self) -> None:
        """Handle what is kept, one by one, then acknowledge all that is done in one go."""
        try:
            while self._kept:
                if self._handle(self._kept[0]):
                    self._done.append(self._kept[0].id)
                self._kept.popleft()
        finally:
            if self._done:
                streams.acknowledge(self._done)
                self._done.clear()

    def _handle(self, entry: streams.Entry) -> bool:
        """Act on one entry; return whether it is to be acknowledged now."""
        if entry.fields is None:
            log.warning("stream_entry_trimmed", entry_id=entry.id, lost="its request")
            return True
        try:
            request = incoming.parse(entry_id=entry.id, fields=entry.fields)
            if request is not None:
                _submit(request, entry_id=entry.id)
        except incoming.MalformedEventError as exc:
            _refuse(entry, code=exc.code, reason=exc.reason)
            return False
        except EngineError as exc:
            _refuse(entry, code=exc.code, reason=exc.message)
            return False
        except DataError:
            _refuse(entry, code="not_storable", reason="a value that PostgreSQL cannot store")
            return False
        except outages.AWAY:
            raise
        except Exception:
            # Left pending: claimed again after a minute, refused after five deliveries.
            log.exception("event_failed", entry_id=entry.id)
            return False
        return True


def _submit(request: incoming.RunRequest, *, entry_id: str) -> None:
    words: dict[str, tracing.Value] = {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.destination.name": streams.EVENTS,
        "messaging.message.id": entry_id,
    }
    name, parent = f"process {streams.EVENTS}", request.traceparent
    with (
        counters.PLANNING.time(),
        tracing.begin(name, kind="consumer", parent=parent, words=words) as span,
    ):
        submitted = runs.submit(
            automation=request.automation,
            input=request.input,
            trigger="event",
            created_by=streams.EVENTS,
            dedupe_key=request.dedupe_key,
            correlation_id=request.correlation_id,
            traceparent=span.traceparent or request.traceparent,
        )
    log.info(
        "run_requested",
        run_id=str(submitted.run_id),
        created=submitted.created,
        correlation_id=request.correlation_id,
    )


def _refuse(entry: streams.Entry, *, code: str, reason: str) -> None:
    streams.refuse(entry, code=code, reason=reason[:1000], at=timezone.now().isoformat())
    log.warning("event_refused", entry_id=entry.id, error_code=code, reason=reason[:300])


def _check_database() -> None:
    """Raise one of DATABASE_ERRORS unless the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
