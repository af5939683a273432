"""What is asked of PostgreSQL and Redis themselves: it holds when web and manager are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import redis
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from config.dependencies import LOCKS_HELD, MANAGER_LOOPS
from config.doctor.checks import (
    BACKUP_SECONDS,
    CONNECTION_RATIO,
    HEARTBEAT_SECONDS,
    QUEUE_DEPTH,
    REDIS_MEMORY_RATIO,
    STREAM_LAG_SECONDS,
    Measured,
)
from engine import registry
from engine.models import Run, WorkerPresence
from orchestration import metrics, routing, status, streams
from orchestration.manager import gauges, loop

if TYPE_CHECKING:
    from collections.abc import Sequence

RECENT_RUNS = 5
BACKUP_AGE = "backup_age_seconds"

SERVER = """
SELECT split_part(current_setting('server_version'), ' ', 1),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    current_setting('max_connections')::int
"""
NEW_DEAD_LETTERS = """
SELECT count(*) FILTER (WHERE created_at > clock_timestamp() - interval '24 hours'), count(*)
FROM engine_deadletter WHERE state = 'open'
"""


def database() -> dict[str, Measured]:
    """Look at the server: does it answer, has it connections left."""
    version, used, most = _rows(SERVER)[0]
    return {
        "database": Measured(
            f"{version}, {used} of {most} connections",
            used < CONNECTION_RATIO * most,
            number=used / most,
        )
    }


def migrations() -> dict[str, Measured]:
    """Compare the code's migrations with the database's."""
    wanted = set(MigrationLoader(None).disk_migrations)
    missing = sorted(wanted - set(_rows("SELECT app, name FROM django_migrations")))
    value = f"{len(missing)} missing" if missing else "all applied"
    note = "first {}.{}; run: python manage.py migrate".format(*missing[0]) if missing else ""
    return {"migrations": Measured(value, not missing, number=len(missing), note=note)}


def work() -> dict[str, Measured]:
    """Look at what waits, who serves it, what is stuck and what has failed for good."""
    waiting = {str(queue): int(count) for queue, count, _age in _rows(gauges.WAITING)}
    online = {str(q): int(n) for q, n in _rows(gauges.ONLINE, [WorkerPresence.ONLINE_SECONDS])}
    known = routing.queues(registry.departments)
    for queue, depth in _depths({*known, *waiting}).items():
        # Messages carry several steps, and fetched ones are in no list: the larger is the truth.
        waiting[queue] = max(waiting.get(queue, 0), depth)
    return {
        "queue_depth": _depth(waiting),
        "workers": _workers(waiting, online, known),
        "runs_stuck": _stuck(),
        "dead_letters": _dead_letters(),
        "recent_runs": _recent_runs(),
    }


def _depth(waiting: dict[str, int]) -> Measured:
    queue, depth = max(waiting.items(), key=lambda pair: pair[1], default=("", 0))
    over = sorted(name for name, number in waiting.items() if number >= QUEUE_DEPTH)
    note = ", ".join(f"{name} {waiting[name]}" for name in over)
    return Measured(
        f"{depth:,} ({queue})" if depth else "0", depth < QUEUE_DEPTH, number=depth, note=note
    )


def _workers(waiting: dict[str, int], online: dict[str, int], known: Sequence[str]) -> Measured:
    without = sorted(queue for queue in {*known, *waiting} if not online.get(queue))
    lacking = [queue for queue in without if waiting.get(queue)]
    served = f"{len(known) - len([q for q in without if q in known])} of {len(known)} queues served"
    if lacking:
        note = "work waits in " + ", ".join(f"{queue} ({waiting[queue]})" for queue in lacking)
    else:
        note = f"nobody serves {', '.join(without)}; nothing waits there" if without else ""
    return Measured(served, not lacking, number=len(lacking), note=note)


def _stuck() -> Measured:
    stuck = int(_rows(gauges.STUCK)[0][0])
    return Measured(
        str(stuck), stuck == 0, number=stuck, note="check_invariants names them" if stuck else ""
    )


def _dead_letters() -> Measured:
    new, opened = (int(number) for number in _rows(NEW_DEAD_LETTERS)[0])
    return Measured(str(new), new == 0, number=new, note=f"{opened:,} open" if opened else "")


def _recent_runs() -> Measured:
    states = list(Run.objects.order_by("-created_at").values_list("state", flat=True)[:RECENT_RUNS])
    counted = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return Measured(", ".join(counted) or "none yet", ok=True, number=len(states))


def broker() -> dict[str, Measured]:
    """Look at Redis: does it answer, has it room, would it drop queues, is the stream read."""
    client = streams.client()
    server: Any = client.info("server")
    memory: Any = client.info("memory")
    limit = int(memory.get("maxmemory", 0)) or int(memory.get("total_system_memory", 0))
    ratio = int(memory["used_memory"]) / limit if limit else 0.0
    of = "of maxmemory" if memory.get("maxmemory") else "of the machine's memory: no maxmemory"
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    group = streams.status()
    return {
        "redis": Measured(str(server.get("redis_version", "answers")), ok=True),
        "redis_memory": Measured(
            f"{ratio:.1%}", ratio < REDIS_MEMORY_RATIO, number=round(ratio, 4), note=of
        ),
        "redis_eviction": Measured(policy, policy == "noeviction"),
        "stream_lag": Measured(
            f"{group.lag_seconds:.1f} s",
            group.lag_seconds < STREAM_LAG_SECONDS,
            number=round(group.lag_seconds, 3),
            note=f"{group.undelivered} unread, {group.pending} pending"
            if group.undelivered or group.pending
            else "",
        ),
    }


def manager() -> dict[str, Measured]:
    """Ask the database who holds the loops, and Redis what the managers last said."""
    held = {int(row[0]) for row in _rows(LOCKS_HELD)}
    without = sorted(name for name in MANAGER_LOOPS if loop.lock_key(name) not in held)
    good, age = not without, None
    note = f"nobody runs {', '.join(without)}" if without else ""
    if len(without) == len(MANAGER_LOOPS):
        note = "none is running; start one: python manage.py manager"
    try:
        said = status.managers()
    except redis.RedisError:
        instances = "Redis cannot be asked how many"
    else:
        age = said[0].age_seconds if said else None
        instances = f"{len(said)} running, last word {age:.1f} s ago" if said else "none has spoken"
        ill = [one.name for one in said if one.is_fresh and not one.is_well]
        if good and (ill or age is None or age > HEARTBEAT_SECONDS):
            good = False
            note = f"degraded: {', '.join(ill)}" if ill else "no manager has spoken lately"
    note = "; ".join(part for part in (note, instances) if part)
    return {"manager": Measured("healthy" if good else "degraded", good, number=age, note=note)}


def backup() -> dict[str, Measured]:
    """Read the age of the newest backup in the manager's last sample."""
    kept = metrics.kept()
    ages = [v for name, _, v in kept[0].values if name == BACKUP_AGE] if kept else []
    if not ages:
        return {"backup": Measured("unknown", ok=False, note="no manager says it")}
    age = float(ages[0])
    return {"backup": Measured(f"{age / 3600:.1f} h old", age < BACKUP_SECONDS, number=age)}


def _depths(queues: set[str]) -> dict[str, int]:
    try:
        return streams.depths(sorted(queues))
    except streams.AWAY:
        return {}  # the rows say most of it; that Redis is away stands in its own line


def _rows(statement: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cast("list[tuple[Any, ...]]", cursor.fetchall())
