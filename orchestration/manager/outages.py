"""Say once that a dependency is away, and once that it is back; not once a loop and second."""

from __future__ import annotations

import threading
import time

import redis
import structlog

from orchestration import connections, publisher

log = structlog.get_logger(__name__)

DATABASE, BROKER = "PostgreSQL", "Redis"
DATABASE_ERRORS = connections.DATABASE_ERRORS
BROKER_ERRORS: tuple[type[Exception], ...] = (redis.RedisError, publisher.BrokerAwayError)
AWAY = (*DATABASE_ERRORS, *BROKER_ERRORS)

_lock = threading.Lock()
_since: dict[str, float] = {}


def dependency(error: Exception) -> str:
    """Return which dependency an error of `AWAY` speaks of."""
    return BROKER if isinstance(error, BROKER_ERRORS) else DATABASE


def begin(name: str, error: Exception) -> None:
    """Note that a dependency is away; logged when nobody noted it before."""
    with _lock:
        if name in _since:
            return
        _since[name] = time.monotonic()
    reason = " ".join(str(error).split())[:300]
    log.warning("dependency_away", dependency=name, reason=reason, doing="trying again")


def end(name: str) -> None:
    """Note that a dependency answered again."""
    with _lock:
        began = _since.pop(name, None)
    if began is not None:
        away = round(time.monotonic() - began, 1)
        log.warning("dependency_back", dependency=name, away_seconds=away)


def current() -> dict[str, float]:
    """Return what is away, and for how many seconds."""
    with _lock:
        return {name: time.monotonic() - began for name, began in _since.items()}
