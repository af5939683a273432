"""Tell the streams what has happened: rows written with the change, appended, then deleted."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now

from engine import outbox, trace_context, tracing
from engine.models import DeadLetter
from orchestration import publisher, repairs, routing, streams
from orchestration.manager import counters
from orchestration.manager.loop import Loop
from orchestration.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.models import OutboxEvent

#: Events per transaction and round trip.
BATCH = 500
#: How often, and after how long, an announcement that was lost with Redis is made again, seconds.
RING_EVERY_SECONDS = 30.0
DEAD_LETTER_CREATED = "dead_letter.created"


class Outbox(Loop):
    """At least once: readers drop doubles by `event_id`."""

    name = "outbox"
    interval = 0.25

    _rang_at = 0.0

    def tick(self) -> bool:
        """Relay a batch; now and then look for dead letters whose announcement got lost."""
        if time.monotonic() - self._rang_at > RING_EVERY_SECONDS:
            self._rang_at = time.monotonic()
            ring_again()
        relayed: list[OutboxEvent] = []

        def send_and_keep(events: Sequence[OutboxEvent]) -> None:
            send(events)
            relayed.extend(events)

        found = outbox.relay(limit=BATCH, send=send_and_keep)
        # They are deleted now, and will not come again.
        counters.count_ended(relayed)
        return found == BATCH


def ring_again() -> None:
    """Announce dead letters nobody was told of, when no announcement waits any more."""
    silent = DeadLetter.objects.filter(
        state="open",
        notified_at__isnull=True,
        created_at__lt=Now() - timedelta(seconds=RING_EVERY_SECONDS),
    )
    found = list(silent.order_by("id").values_list("pk", flat=True)[:BATCH])
    if found and streams.depth(routing.DEAD_LETTER) == 0:
        publisher.publisher.notify_dead_letters(found)
        repairs.note(Repair.ANNOUNCEMENTS, len(found))


def send(events: Sequence[OutboxEvent]) -> None:
    """Append events to their streams; dead letters are also told to their queue."""
    with _traced(events) as fields:
        streams.append((event.stream, flat(event) | fields.get(event.pk, {})) for event in events)
    publisher.publisher.notify_dead_letters(
        [
            int(event.data["dead_letter_id"])
            for event in events
            if event.event_type == DEAD_LETTER_CREATED and "dead_letter_id" in event.data
        ]
    )


@contextmanager
def _traced(events: Sequence[OutboxEvent]) -> Iterator[Mapping[int, dict[str, str]]]:
    """Tell the traces of these events' runs; yields, by event, what its entry carries of that."""
    begun: dict[int, tracing.Span] = {}
    if tracing.is_on():
        for event in events:
            parent = event.data.get("traceparent") if isinstance(event.data, dict) else ""
            if parent:
                begun[event.pk] = tracing.begin(
                    f"publish {event.event_type}",
                    kind="producer",
                    parent=parent,
                    words={
                        "messaging.system": "redis",
                        "messaging.operation.name": "publish",
                        "messaging.destination.name": event.stream,
                        "run.id": str(event.run_id or ""),
                        "run.status": str(event.data.get("status", "")),
                    },
                )
    yield {pk: {trace_context.HEADER: span.traceparent} for pk, span in begun.items()}
    for span in begun.values():
        span.end({})


def flat(event: OutboxEvent) -> dict[str, str]:
    """Return an event as the flat strings a stream carries (CONTRACT §1)."""
    data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
    fields = {
        "event_id": f"outbox-{event.pk}",
        "event_type": event.event_type,
        "run_id": str(event.run_id or ""),
        "automation": str(data.get("automation", "")),
        "department": str(data.get("department", "")),
        "correlation_id": str(data.get("correlation_id", "")),
        "occurred_at": event.at.isoformat(),
        "data": json.dumps(event.data),
    }
    if data.get("traceparent"):
        fields["traceparent"] = str(data["traceparent"])
    return fields
