"""Bring what workers say of themselves into the database, where everybody looks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import connection

from engine.models import StepRun, WorkerPresence
from engine.states import StepState
from orchestration import presence, streams
from orchestration.manager.loop import Loop
from orchestration.manager.unserved import Unserved

if TYPE_CHECKING:
    import threading

    from orchestration.presence import Word

#: A worker silent for this long is forgotten, in seconds; it counts as offline long before.
FORGET_SECONDS = 300.0


class Presence(Loop):
    """Workers speak to Redis, because a process that forks must not hold a database connection."""

    name = "presence"
    interval = 2.0

    def __init__(self, *, stop: threading.Event) -> None:
        super().__init__(stop=stop)
        self._unserved = Unserved()

    def tick(self) -> bool:
        """Write one row per worker; drop those that left or have long been silent."""
        client = streams.client()
        at, said = presence.said(client)
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (now,) = cursor.fetchone()
        rows, gone = [], []
        begun = _begun([word for word in said.values() if word])
        for hostname, word in said.items():
            if word is None or word.leaving or at - word.at > FORGET_SECONDS:
                gone.append(hostname[:255])
                client.hdel(streams.WORKERS, hostname)
                continue
            age = max(0.0, at - word.at)
            silent = word.has_work and age > presence.FRESH_SECONDS
            rows.append(
                WorkerPresence(
                    hostname=hostname[:255],
                    queues=word.queues,
                    pid=word.pid,
                    concurrency=word.concurrency,
                    # A worker with work that has fallen silent holds nothing any more.
                    busy=0 if silent else word.busy or 0,
                    held=[] if silent else [step for step in word.held if step not in begun],
                    started_at=now - timedelta(seconds=age + word.uptime),
                    seen_at=now - timedelta(seconds=age),
                )
            )
        WorkerPresence.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["hostname"],
            update_fields=[
                *("queues", "pid", "concurrency", "busy", "held", "started_at", "seen_at")
            ],
        )
        WorkerPresence.objects.filter(hostname__in=gone).delete()
        WorkerPresence.objects.filter(seen_at__lt=now - timedelta(seconds=FORGET_SECONDS)).delete()
        self._unserved.look()
        return False


def _begun(words: list[Word]) -> set[int]:
    """Return which of the steps that workers hold are begun or done: the parent cannot see it."""
    held = {step for word in words for step in word.held}
    if not held:
        return set()
    waiting = StepRun.objects.filter(pk__in=held, state=StepState.QUEUED, claim__isnull=True)
    return held.difference(waiting.values_list("pk", flat=True))
