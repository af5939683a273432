"""Make steps wait for what a test is about."""

from __future__ import annotations

from django.db.models.functions import Now

from engine.models import WorkerPresence


def present(*queues: str, held=(), hostname: str = "w@here") -> None:
    """Let a worker have said a moment ago that it consumes these queues and what it holds."""
    WorkerPresence.objects.update_or_create(
        hostname=hostname,
        defaults={
            "queues": list(queues),
            "held": list(held),
            "pid": 1,
            "concurrency": 1,
            "started_at": Now(),
            "seen_at": Now(),
        },
    )
