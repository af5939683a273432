"""Bring what workers say of themselves into the database, where everybody looks."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, cast

from django.db import connection

from engine.models import WorkerPresence
from orchestration import streams
from orchestration.manager.loop import Loop

#: A worker silent for this long is forgotten, in seconds; it counts as offline long before.
FORGET_SECONDS = 300.0


class Presence(Loop):
    """Workers speak to Redis, because a process that forks must not hold a database connection."""

    name = "presence"
    interval = 2.0

    def tick(self) -> bool:
        """Write one row per worker; drop those that left or have long been silent."""
        client = streams.client()
        seconds, micros = client.time()
        said = cast("dict[bytes, bytes]", client.hgetall(streams.WORKERS))
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (now,) = cursor.fetchone()
        rows, gone = [], []
        for name, raw in said.items():
            hostname = name.decode(errors="replace")[:255]
            age = _age(raw, at=seconds + micros / 1e6)
            if age is None or age > FORGET_SECONDS:
                gone.append(hostname)
                client.hdel(streams.WORKERS, name)
                continue
            found = json.loads(raw)
            rows.append(
                WorkerPresence(
                    hostname=hostname,
                    queues=found["queues"],
                    pid=found["pid"],
                    concurrency=found["concurrency"],
                    started_at=now - timedelta(seconds=age + found["uptime"]),
                    seen_at=now - timedelta(seconds=age),
                )
            )
        WorkerPresence.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["hostname"],
            update_fields=["queues", "pid", "concurrency", "started_at", "seen_at"],
        )
        WorkerPresence.objects.filter(hostname__in=gone).delete()
        WorkerPresence.objects.filter(seen_at__lt=now - timedelta(seconds=FORGET_SECONDS)).delete()
        return False


def _age(raw: bytes, *, at: float) -> float | None:
    """Return how long ago a worker spoke, None when it left or what it said makes no sense."""
    try:
        found: dict[str, Any] = json.loads(raw)
        if found["leaving"]:
            return None
        int(found["pid"]), int(found["concurrency"]), float(found["uptime"]), list(found["queues"])
        return max(0.0, at - float(found["at"]))
    except (ValueError, KeyError, TypeError):
        return None
