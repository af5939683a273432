"""Find work that nobody does any more: expired claims, dead workers, messages that were lost."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.conf import settings
from django.db import connection

from engine import leases
from orchestration import presence, repairs, streams
from orchestration.manager import outages
from orchestration.manager.loop import Loop
from orchestration.manager.lost_messages import LostMessages
from orchestration.repairs import Repair

if TYPE_CHECKING:
    import threading

#: Expired claims ended per tick.
CLAIMS = 200
#: How often claims without a lease are looked for, in seconds: there should be none.
REPAIR_SECONDS = 5.0
#: Hints read per tick.
HINTS = 200
#: The clock of pauses: leases run on while the machine sleeps, Linux's monotonic clock stands.
PAUSE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Reaper(Loop):
    """Leases end on the database's clock; everything here is a guarded update, safe to repeat."""

    name = "reaper"
    # Half of the second that the crash points allow a tick: the other half is the tick's own.
    interval = 0.5

    _last_tick = 0.0
    _repaired_at = 0.0

    def __init__(self, *, stop: threading.Event) -> None:
        super().__init__(stop=stop)
        self._lost_messages = LostMessages()

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
        now = time.clock_gettime(PAUSE_CLOCK)
        paused = self._last_tick and now - self._last_tick > settings.LEASE_SECONDS / 2
        if self.reconnected or paused:
            leases.grant_grace(seconds=settings.LEASE_SECONDS)
            self.reconnected = False
        repair = now - self._repaired_at > REPAIR_SECONDS
        self._repaired_at = now if repair else self._repaired_at
        reaped = self.guarded(lambda: leases.reap(limit=CLAIMS, repair=repair))
        repairs.note(Repair.CLAIMS, reaped)
        # From here on Redis is asked; when it is away, the leases above have had their turn.
        self._last_tick = time.clock_gettime(PAUSE_CLOCK)
        try:
            hints = self.guarded(self._believe_hints)
            self.guarded(self._lost_messages.hand_back)
        except outages.BROKER_ERRORS:
            self._lost_messages.settle()
            raise
        self._last_tick = time.clock_gettime(PAUSE_CLOCK)
        return reaped >= CLAIMS or hints >= HINTS

    def _believe_hints(self) -> int:
        """End the claims of workers whose parents say that they died."""
        raw: Any = streams.client().lpop(streams.WORKERS_LOST, HINTS)
        now = presence.clock(streams.client()) if raw else 0.0
        for item in raw or []:
            hint = parse_hint(item)
            if hint is not None and hint.recycled:
                repairs.note(Repair.RECYCLED, worker=hint.worker, reason=hint.recycled)
            elif hint is not None:
                returned = self.guarded(
                    partial(
                        leases.worker_lost,
                        step_run_ids=hint.step_run_ids,
                        worker=hint.worker,
                        blame=hint.blame,
                        ago_seconds=max(0.0, now - hint.at) if hint.at else 0.0,
                    )
                )
                repairs.note(Repair.WORKERS, returned, worker=hint.worker)
        return len(raw or [])


class Hint(NamedTuple):
    """A worker process that is gone, the StepRuns of its message, and whether they are to blame.

    `at`: since when, on the clock of Redis; 0 from workers that do not say. `recycled`: why a whole
    worker has ended itself, to be started again; such a hint names no StepRuns.
    """

    worker: str
    step_run_ids: list[int]
    blame: bool
    at: float = 0.0
    recycled: str = ""


def parse_hint(raw: bytes) -> Hint | None:
    """Return what a hint says, None for anything that is not a hint of ours."""
    try:
        found = cast("dict[str, Any]", json.loads(raw))
        if found.get("recycled"):
            return Hint(str(found["worker"]), [], blame=False, recycled=str(found["recycled"]))
        ids = [int(item) for item in found["step_run_ids"]]
        blame, at = bool(found.get("blame", True)), float(found.get("at", 0.0))
        return Hint(str(found["worker"]), ids, blame, at)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
