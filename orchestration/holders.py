"""What stands in the two streams, who holds it, and how it changes hands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import redis

from orchestration import streams
from orchestration.manager.events import CLAIM_EVERY_SECONDS, CLAIM_IDLE_SECONDS

#: Entries counted; beyond it the number is said to be larger.
MOST_COUNTED = 10_000


def events() -> list[dict[str, Any]]:
    """Return the stream of events with its groups, ours first, and our consumers."""
    if not streams.client().exists(streams.EVENTS):
        return [{"stream": streams.EVENTS, "group": "none yet: a manager makes it"}]
    status = streams.status()
    info: Any = streams.client().xinfo_stream(streams.EVENTS)
    groups: Any = streams.client().xinfo_groups(streams.EVENTS)
    ours: dict[str, Any] = {"group": "none yet: a manager makes it"}
    if any(group["name"] == streams.GROUP.encode() for group in groups):
        ours = {
            "group": streams.GROUP,
            "undelivered": status.undelivered,
            "pending": status.pending,
            "lag_seconds": round(status.lag_seconds, 1),
            "last_delivered": last_delivered(),
        }
    first, last = (_id_of(info[name]) for name in ("first-entry", "last-entry"))
    return [
        {"stream": streams.EVENTS, "length": status.length, "first": first, "last": last, **ours},
        *consumers(),
        *(
            {
                "group": group["name"].decode(errors="replace"),
                "pending": group["pending"],
                "last_delivered": group["last-delivered-id"].decode(),
            }
            for group in groups
            if group["name"] != streams.GROUP.encode()
        ),
    ]


def dead_letters() -> dict[str, Any]:
    """Return the stream of dead letters."""
    return {"stream": streams.DLQ, "length": streams.client().xlen(streams.DLQ)}


def consumers() -> list[dict[str, Any]]:
    """Return our group's consumers: what each holds, and since when it has not asked."""
    try:
        found: Any = streams.client().xinfo_consumers(streams.EVENTS, streams.GROUP)
    except redis.ResponseError as exc:
        if str(exc).startswith(("NOGROUP", "no such key")):
            return []
        raise
    return [
        {
            "consumer": one["name"].decode(errors="replace"),
            "pending": one["pending"],
            "idle_seconds": round(one["idle"] / 1000, 1),
        }
        for one in found
    ]


def pending(*, limit: int, consumer: str | None = None, idle: float = 0.0) -> list[dict[str, Any]]:
    """Return entries delivered and not acknowledged, the oldest first; `idle` in seconds."""
    try:
        found: Any = streams.client().xpending_range(
            streams.EVENTS,
            streams.GROUP,
            min="-",
            max="+",
            count=limit,
            consumername=consumer,
            idle=int(idle * 1000) or None,
        )
    except redis.ResponseError as exc:
        if streams.is_group_missing(exc):
            return []
        raise
    return [
        {
            "id": entry["message_id"].decode(),
            "since": _moment(entry["message_id"]),
            "consumer": entry["consumer"].decode(errors="replace"),
            "idle_seconds": round(entry["time_since_delivered"] / 1000, 1),
            "deliveries": entry["times_delivered"],
        }
        for entry in found
    ]


def give(consumer: str, ids: list[str]) -> None:
    """Hand entries over, idle for long enough that a manager takes them on its next look.

    JUSTID: being handed over is no delivery, of which an entry has only so many.
    """
    streams.client().xclaim(
        streams.EVENTS,
        streams.GROUP,
        consumer,
        min_idle_time=0,
        message_ids=ids,  # type: ignore[arg-type] # a list of texts is what it takes
        idle=int((CLAIM_IDLE_SECONDS + CLAIM_EVERY_SECONDS) * 1000),
        justid=True,
    )


def last_delivered() -> str:
    """Return the entry behind which our group reads on; "none" without a group."""
    try:
        groups: Any = streams.client().xinfo_groups(streams.EVENTS)
    except redis.ResponseError:
        return "none"
    ours = (group for group in groups if group["name"] == streams.GROUP.encode())
    return next((str(group["last-delivered-id"].decode()) for group in ours), "none")


def after(entry_id: str) -> int:
    """Return how many entries stand behind an id, counted up to MOST_COUNTED."""
    if entry_id == "$":
        return 0
    found: Any = streams.client().xrange(streams.EVENTS, min=f"({entry_id}", count=MOST_COUNTED)
    return len(found)


def _id_of(entry: Any) -> str:
    return str(entry[0].decode()) if entry else "-"


def _moment(entry_id: bytes) -> str:
    at = datetime.fromtimestamp(streams.milliseconds(entry_id) / 1000, tz=UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}"
