"""What the platform puts right by itself: counted, logged, and shown by `/health/manager`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import structlog
from prometheus_client import Counter

log = structlog.get_logger(__name__)


class Repair(StrEnum):
    """What can be put right; the count is of what is named."""

    #: Entries of `automation.events` taken over from a consumer that had left them.
    STREAM_ENTRIES = "stream_entries_claimed"
    #: The group of `automation.events`, made again.
    STREAM_GROUP = "stream_group_recreated"
    #: Steps whose message was lost, made ready to be sent again.
    MESSAGES = "messages_lost"
    #: Steps that stood in a busy worker's line while another was idle.
    STRANDED = "steps_stranded"
    #: Steps sent again because Redis had lost its memory.
    BROKER = "broker_memory_lost"
    #: Steps of claims whose lease had run out, or that had none.
    CLAIMS = "claims_expired"
    #: Steps of worker processes that were reported dead.
    WORKERS = "workers_lost"
    #: Workers that consumed nothing, or stood still, and ended themselves to be started again.
    RECYCLED = "workers_recycled"
    #: Dead letters whose announcement was lost, announced again.
    ANNOUNCEMENTS = "dead_letters_announced"


REPAIRS = Counter("manager_repairs_total", "What the manager has put right by itself", ["kind"])


@dataclass(frozen=True, slots=True)
class Repaired:
    """How much of a kind this process has put right, and when it last did."""

    count: int
    last_at: datetime


_lock = threading.Lock()
_repaired: dict[str, Repaired] = {}


def prepare() -> None:
    """Show every kind from the start: Prometheus sees no increase in what it has never seen."""
    for kind in Repair:
        REPAIRS.labels(kind.value)


def note(kind: Repair, count: int = 1, **facts: Any) -> int:
    """Count what was put right and say so in the log, unless it is nothing; return the count."""
    if count:
        REPAIRS.labels(kind.value).inc(count)
        with _lock:
            before = _repaired.get(kind.value)
            total = count + (before.count if before else 0)
            _repaired[kind.value] = Repaired(total, datetime.now(UTC))
        log.info("repaired", kind=kind.value, count=count, **facts)
    return count


def shown() -> dict[str, dict[str, Any]]:
    """Return what this process has put right since its start, by kind."""
    with _lock:
        return {
            kind: {"count": found.count, "last_at": found.last_at.isoformat()}
            for kind, found in _repaired.items()
        }
