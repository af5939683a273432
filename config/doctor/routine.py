"""Run every look at once, wait no longer than bounded for any, and judge what came."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from django.db import DatabaseError, connections

from config import reasons
from config.doctor import api, looks
from config.doctor.checks import CHECKS, Check, Measured
from config.logs import redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: How long the whole routine waits, in seconds. Looks that still hang then are left behind.
PATIENCE_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Look:
    """Something to ask, and the checks its answer is for."""

    ask: Callable[[], Mapping[str, Measured]]
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A check and what came of it."""

    check: Check
    found: Measured


def all_looks(url: str) -> list[Look]:
    """Return every look; `url` is where web answers."""
    return [
        Look(lambda: api.health(url), ("web",)),
        Look(lambda: api.speed(url), ("api_latency", "api_errors")),
        Look(looks.database, ("database",)),
        Look(looks.migrations, ("migrations",)),
        Look(
            looks.work,
            ("queue_depth", "workers", "runs_stuck", "recent_runs", "dead_letters"),
        ),
        Look(looks.broker, ("redis", "redis_memory", "redis_eviction", "stream_lag")),
        Look(looks.manager, ("manager",)),
        Look(looks.backup, ("backup",)),
    ]


def run(wanted: list[Look], *, patience_seconds: float = PATIENCE_SECONDS) -> list[Line]:
    """Return a line a check, in the order of CHECKS; what gives no answer is over its limit."""
    deadline = time.monotonic() + patience_seconds
    found: dict[str, Measured] = {}
    threads = [
        # Daemons: one that hangs in a dead dependency does not hold up the end of the command.
        threading.Thread(target=_answer, args=(look, found), daemon=True)
        for look in wanted
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = Measured("no answer", ok=False, note=f"nothing came within {patience_seconds:g} s")
    asked = {name for look in wanted for name in look.checks}
    answers = dict(found)
    return [Line(c, answers.get(n, silent)) for n, c in CHECKS.items() if n in asked]


def _answer(look: Look, found: dict[str, Measured]) -> None:
    try:
        answer: Mapping[str, Any] = look.ask()
    except Exception as exc:  # noqa: BLE001 - whatever is wrong with a dependency is its answer
        answer = dict.fromkeys(look.checks, Measured("no answer", ok=False, note=_reason(exc)))
    finally:
        connections.close_all()
    found.update(answer)


def _reason(error: Exception) -> str:
    # Django's errors of the database carry the driver's.
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    if isinstance(cause, (psycopg.Error, redis.RedisError)):
        return reasons.of(cause)
    lines = redaction.scrubbed(str(error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
