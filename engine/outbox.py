"""Tell the outside what has happened: rows written with the change, relayed, then deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from engine.models import OutboxEvent
from engine.webhooks import deliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def relay(*, limit: int, send: Callable[[Sequence[OutboxEvent]], None]) -> int:
    """Hand the oldest events to `send`, then delete them. Returns how many.

    A death between sending and commit sends them again: readers drop doubles by `event_id`.
    Webhooks get theirs as rows of the same transaction: each event once for each endpoint.
    """
    with transaction.atomic():
        found = list(OutboxEvent.objects.select_for_update(skip_locked=True).order_by("id")[:limit])
        if found:
            ids = [event.pk for event in found]
            deliveries.fan_out(ids)
            send(found)
            OutboxEvent.objects.filter(pk__in=ids).delete()
    return len(found)
