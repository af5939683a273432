"""What the managers last said of themselves, for web's /health and for commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from orchestration import streams

#: A manager that has not spoken for this long counts as gone, in seconds.
FRESH_SECONDS = 10.0
#: States of a loop in which it does not do its work.
TROUBLED = frozenset({"stuck", "waiting", "failing"})
HEALTHY, DEGRADED = "healthy", "degraded"
#: After this its entry is removed, in seconds.
FORGET_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class ManagerStatus:
    """One manager: `status` is healthy or degraded; `loops` as on its own /health."""

    name: str
    status: str
    age_seconds: float
    loops: dict[str, Any]
    #: What it has put right since its start: kind -> count and last_at.
    repairs: dict[str, Any]

    @property
    def is_fresh(self) -> bool:
        """Return whether it spoke recently."""
        return self.age_seconds <= FRESH_SECONDS

    @property
    def is_well(self) -> bool:
        """Return whether it called itself healthy."""
        return self.status == HEALTHY


def managers() -> list[ManagerStatus]:
    """Return the managers that have spoken lately, freshest first; raises redis.RedisError."""
    client = streams.client(reply_seconds=streams.QUICK_SECONDS)
    now = _now(client)
    found = []
    for name, raw in cast("dict[bytes, bytes]", client.hgetall(streams.MANAGERS)).items():
        try:
            said = json.loads(raw)
            age = max(0.0, now - float(said["at"]))
            loops, repairs = dict(said["loops"]), dict(said.get("repairs") or {})
            entry = ManagerStatus(name.decode(), str(said["status"]), age, loops, repairs)
        except (ValueError, KeyError, TypeError):
            client.hdel(streams.MANAGERS, name)
            continue
        if age > FORGET_SECONDS:
            client.hdel(streams.MANAGERS, name)
        else:
            found.append(entry)
    return sorted(found, key=lambda entry: entry.age_seconds)


def tell(
    *, name: str, status: str, loops: dict[str, Any], repairs: dict[str, Any] | None = None
) -> None:
    """Say how a manager is; raises redis.RedisError."""
    client = streams.client(reply_seconds=streams.QUICK_SECONDS)
    said = {"at": _now(client), "status": status, "loops": loops, "repairs": repairs or {}}
    client.hset(streams.MANAGERS, name, json.dumps(said))


def leave(*, name: str) -> None:
    """Say that a manager has ended; raises redis.RedisError."""
    streams.client(reply_seconds=streams.QUICK_SECONDS).hdel(streams.MANAGERS, name)


def _now(client: Any) -> float:
    seconds, micros = client.time()
    return float(seconds + micros / 1e6)
