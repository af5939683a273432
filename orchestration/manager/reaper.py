"""Find work that nobody does any more: expired claims, dead workers, messages that were lost."""

from __future__ import annotations

import json
import time
from typing import Any, cast

from django.conf import settings
from django.db import connection

from engine import leases
from engine.causes import ReleaseReason
from orchestration import messages, streams
from orchestration.manager.loop import Loop

#: Expired claims ended per tick.
CLAIMS = 200
#: Hints read per tick.
HINTS = 200
#: Queues longer than this many messages are not searched; the patience of their steps decides.
SEARCHED_MESSAGES = 2_000
#: Beyond this a queued step is sent again whatever its queue says, in seconds.
FINAL_PATIENCE_SECONDS = 300.0


class Reaper(Loop):
    """Leases end on the database's clock; everything here is a guarded update, safe to repeat."""

    name = "reaper"
    interval = 1.0

    _last_tick = 0.0

    def gained(self) -> None:
        """Begin carefully where PostgreSQL itself has only just begun.

        While it was away nobody could renew. A takeover from another manager needs no such grace:
        the workers have gone on renewing.
        """
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT clock_timestamp() - pg_postmaster_start_time() < %s * interval '1 second'",
                [settings.LEASE_SECONDS],
            )
            (young,) = cursor.fetchone()
        self.reconnected = self.reconnected or bool(young)

    def tick(self) -> bool:
        """Grant grace after an outage, then look for lost claims and lost messages."""
        now = time.monotonic()
        paused = self._last_tick and now - self._last_tick > settings.LEASE_SECONDS / 2
        if self.reconnected or paused:
            leases.grant_grace(seconds=settings.LEASE_SECONDS)
            self.reconnected = False
        reaped = self.guarded(lambda: leases.reap(limit=CLAIMS))
        # From here on Redis is asked; when it is away, the leases above have had their turn.
        self._last_tick = time.monotonic()
        hints = self.guarded(self._believe_hints)
        self.guarded(self._find_lost_messages)
        self._last_tick = time.monotonic()
        return reaped >= CLAIMS or hints >= HINTS

    def _believe_hints(self) -> int:
        """End the claims of workers whose parents say that they died."""
        raw: Any = streams.client().lpop(streams.WORKERS_LOST, HINTS)
        for item in raw or []:
            hint = parse_hint(item)
            if hint is not None:
                worker, ids = hint
                self.guarded(lambda: leases.worker_lost(step_run_ids=ids, worker=worker))  # noqa: B023 - called at once
        return len(raw or [])

    @staticmethod
    def _find_lost_messages() -> int:
        """Hand back queued steps whose message is in no queue any more."""
        overdue = leases.queued_too_long(older_than_seconds=settings.LOST_MESSAGE_SECONDS)
        final = None
        returned = 0
        for queue, ids in overdue.items():
            lost = missing(queue=queue, step_run_ids=ids)
            if lost is None:
                if final is None:
                    final = leases.queued_too_long(older_than_seconds=FINAL_PATIENCE_SECONDS)
                lost = final.get(queue, [])
            if lost:
                returned += leases.hand_back(step_run_ids=lost, reason=ReleaseReason.MESSAGE_LOST)
        return returned


def missing(*, queue: str, step_run_ids: list[int]) -> list[int] | None:
    """Return which of these StepRuns no message in the queue names; None when it is too long.

    The truth about the queue, not a guess from its length: a message behind a long step is not
    lost. One that a worker has fetched and not begun looks lost, and sending it again lets an idle
    worker take it.
    """
    depth = streams.depth(queue)
    if depth == 0:
        return step_run_ids
    if depth > SEARCHED_MESSAGES:
        return None
    named: set[int] = set()
    for message in streams.waiting(queue, limit=SEARCHED_MESSAGES):
        named.update(messages.step_run_ids(message))
    return [found for found in step_run_ids if found not in named]


def parse_hint(raw: bytes) -> tuple[str, list[int]] | None:
    """Return (worker, StepRun ids), None for anything that is not a hint of ours."""
    try:
        found = cast("dict[str, Any]", json.loads(raw))
        return str(found["worker"]), [int(item) for item in found["step_run_ids"]]
    except (ValueError, KeyError, TypeError):
        return None
