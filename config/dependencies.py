"""What health looks at: each dependency, how it is asked, and what its answer means."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django_prometheus import migrations

from config import reasons
from config.probes import DEGRADED, HEALTHY, UNHEALTHY, Answer, Prober
from engine import registry
from engine.models import WorkerPresence
from engine.postgresql import bounded
from orchestration import presence, routing, status, streams
from orchestration.manager import loop

#: How long one connection attempt, or one answer, of the database may take in a probe, in seconds.
DATABASE_SECONDS = 2
#: The manager's loops that one process at a time runs; while one is nobody's, its work waits.
MANAGER_LOOPS = (
    "dispatcher",
    "timers",
    "schedules",
    "reaper",
    "outbox",
    "presence",
    "webhooks",
    "sealing",
)
# A manager's loop holds its advisory lock by its own session: no session, no manager. A key of 64
# bits is shown in two halves.
LOCKS_HELD = """
SELECT ((classid::bigint << 32) | objid::bigint) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# Along the index of what is ready. Steps beyond so many are not counted.
BACKLOG = """
SELECT count(*), extract(epoch FROM clock_timestamp() - min(ready_at))::float8
FROM (SELECT ready_at FROM engine_steprun WHERE state = 'ready' LIMIT %s) s
"""
MOST_COUNTED = 10_000

_local = threading.local()


def _database() -> bounded.Connection:
    """Return this probe's own connection: a pool that is exhausted is not a dead database."""
    connection: bounded.Connection | None = getattr(_local, "connection", None)
    if connection is None or connection.closed:
        given = connections["default"].get_connection_params()
        # Django's cursor factory and context belong to Django's own connections.
        kept = {k: v for k, v in given.items() if k not in {"cursor_factory", "context", "pool"}}
        kept |= {
            "connect_timeout": DATABASE_SECONDS,
            "tcp_user_timeout": DATABASE_SECONDS * 1000,
            "application_name": "ai-business-engine-probe",
            "options": f"-c statement_timeout={DATABASE_SECONDS * 1000}",
        }
        connection = bounded.Connection.connect(**kept, autocommit=True)
        # Behind a connection that hangs, the server's own timeout is not heard.
        connection.answer_seconds = DATABASE_SECONDS + 1.0
        _local.connection = connection
    return connection


def _rows(statement: Any, *arguments: Any) -> list[tuple[Any, ...]]:
    connection = _database()
    try:
        return connection.execute(statement, arguments).fetchall()
    except psycopg.Error:
        connection.close()
        raise


def _release() -> None:
    """Close this thread's connection."""
    connection: psycopg.Connection[Any] | None = getattr(_local, "connection", None)
    if connection is not None:
        connection.close()


def probe_database() -> Answer:
    """Ask the database for its version."""
    version = _rows("SELECT current_setting('server_version')")[0][0]
    return Answer(HEALTHY, details={"version": str(version).split()[0]})


def probe_redis() -> Answer:
    """Ask Redis whether it answers and whether it would evict queues."""
    streams.ping()
    streams.check_policy()
    return Answer(HEALTHY)


def probe_migrations() -> Answer:
    """Compare the migrations of this code with those the database has."""
    wanted = set(_loader().disk_migrations)
    table = MigrationRecorder.Migration._meta.db_table  # noqa: SLF001 - Django's documented table
    applied = set(_rows(f"SELECT app, name FROM {table}"))  # noqa: S608 - a constant of Django
    missing = sorted(wanted - applied)
    # django-prometheus would ask at the start of each process, and end it without a database.
    migrations.unapplied_migrations.labels(DEFAULT_DB_ALIAS).set(len(missing))
    migrations.applied_migrations.labels(DEFAULT_DB_ALIAS).set(len(applied))
    if missing:
        app, name = missing[0]
        return Answer(
            UNHEALTHY, f"{len(missing)} migrations not applied, first {app}.{name}; run migrate"
        )
    return Answer(HEALTHY)


def _loader() -> MigrationLoader:
    found: MigrationLoader | None = getattr(_local, "loader", None)
    if found is None:
        # Without a connection only the files are read: nothing here can hang.
        found = MigrationLoader(None)
        _local.loader = found
    return found


def probe_workers() -> Answer:
    """Count the workers of each queue that work can go to, by what they last said in Redis."""
    client = streams.client(reply_seconds=streams.QUICK_SECONDS)
    now, said = presence.said(client)
    queues = dict.fromkeys(routing.queues(registry.departments), 0)
    for word in said.values():
        if word and not word.leaving and now - word.at < WorkerPresence.ONLINE_SECONDS:
            for queue in word.queues:
                queues[queue] = queues.get(queue, 0) + 1
    without = sorted(queue for queue, number in queues.items() if number == 0)
    if without:
        return Answer(DEGRADED, f"no worker on: {', '.join(without)}", {"queues": queues})
    return Answer(HEALTHY, details={"queues": queues})


def probe_stream() -> Answer:
    """Ask how far behind the manager's group is on `automation.events`."""
    found = streams.status()
    return Answer(
        HEALTHY,
        details={
            "lag_seconds": round(found.lag_seconds, 3),
            "undelivered": found.undelivered,
            "pending": found.pending,
        },
    )


def probe_manager() -> Answer:
    """Find out whether a manager holds the locks of its loops."""
    held = {int(row[0]) for row in _rows(LOCKS_HELD)}
    wanted = {name: loop.lock_key(name) for name in MANAGER_LOOPS}
    without = sorted(name for name, key in wanted.items() if key not in held)
    details = {"loops": {name: key in held for name, key in wanted.items()}}
    if len(without) == len(wanted):
        return Answer(DEGRADED, "no manager is running: start one with manage.py manager", details)
    if without:
        return Answer(DEGRADED, f"no manager runs: {', '.join(without)}", details)
    return Answer(HEALTHY, details=details)


def probe_instances() -> Answer:
    """Ask what the managers last said of themselves; it is their word against their silence."""
    found = status.managers()
    speaking = [one for one in found if one.is_fresh]
    details: dict[str, Any] = {"instances": [_instance(one) for one in found]}
    if found:
        details["heartbeat_age_seconds"] = round(found[0].age_seconds, 1)
    if not speaking:
        silent = f"no manager has spoken for {found[0].age_seconds:.0f} s" if found else ""
        reason = silent or "no manager is running: start one with manage.py manager"
        return Answer(DEGRADED, reason, details)
    troubled = [
        f"{one.name} is {one.status}{_of_loops(one)}" for one in speaking if not one.is_well
    ]
    if troubled:
        return Answer(DEGRADED, "; ".join(troubled), details)
    return Answer(HEALTHY, details=details)


def _instance(one: status.ManagerStatus) -> dict[str, Any]:
    return {
        "name": one.name,
        "status": one.status if one.is_fresh else "silent",
        "heartbeat_age_seconds": round(one.age_seconds, 1),
        "loops": {name: said.get("state", "") for name, said in sorted(one.loops.items())},
        "repairs": one.repairs,
    }


def _of_loops(one: status.ManagerStatus) -> str:
    named = {name: said.get("state", "") for name, said in sorted(one.loops.items())}
    bad = [f"{name} {state}" for name, state in named.items() if state in status.TROUBLED]
    return f" ({', '.join(bad)})" if bad else ""


def probe_backlog() -> Answer:
    """Count the steps that are ready and not sent yet; paused ones are among them."""
    count, age = _rows(BACKLOG, MOST_COUNTED)[0]
    return Answer(HEALTHY, details={"ready": count, "oldest_age_seconds": round(age or 0.0, 1)})


prober = Prober(
    {
        "database": probe_database,
        "redis": probe_redis,
        "manager": probe_manager,
        "workers": probe_workers,
        "migrations": probe_migrations,
        "instances": probe_instances,
        "stream": probe_stream,
        "backlog": probe_backlog,
    },
    release=_release,
    words=reasons.of,
)
