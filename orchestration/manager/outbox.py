"""Tell the streams what has happened: rows written with the change, appended, then deleted."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now

from engine import outbox
from engine.models import DeadLetter
from orchestration import publisher, repairs, routing, streams
from orchestration.manager import counters
from orchestration.manager.loop import Loop
from orchestration.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    streams.append((event.stream, flat(event)) for event in events)
    publisher.publisher.notify_dead_letters(
        [
            int(event.data["dead_letter_id"])
            for event in events
            if event.event_type == DEAD_LETTER_CREATED and "dead_letter_id" in event.data
        ]
    )


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
