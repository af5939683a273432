"""Tell the streams what has happened: rows written with the change, appended, then deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine import outbox
from orchestration import publisher, streams
from orchestration.manager.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.models import OutboxEvent

#: Events per transaction and round trip.
BATCH = 500
DEAD_LETTER_CREATED = "dead_letter.created"


class Outbox(Loop):
    """At least once: readers drop doubles by `event_id`."""

    name = "outbox"
    interval = 0.25

    def tick(self) -> bool:
        """Relay a batch."""
        return outbox.relay(limit=BATCH, send=send) == BATCH


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
    return {
        "event_id": f"outbox-{event.pk}",
        "event_type": event.event_type,
        "run_id": str(event.run_id or ""),
        "automation": str(data.get("automation", "")),
        "department": str(data.get("department", "")),
        "correlation_id": str(data.get("correlation_id", "")),
        "occurred_at": event.at.isoformat(),
        "data": json.dumps(event.data),
    }
