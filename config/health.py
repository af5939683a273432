"""`/livez`, `/readyz`, `/health`, `/health/manager`: answered from background probes."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from config.probes import DEGRADED, HEALTHY, UNHEALTHY, Answer, Prober
from engine import registry
from engine.models import WorkerPresence
from engine.postgresql import bounded
from orchestration import presence, routing, streams
from orchestration.manager import loop

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

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
UNAVAILABLE = 503

# A manager's loop holds its advisory lock by its own session: no session, no manager. A key of 64
# bits is shown in two halves.
LOCKS_HELD = """
SELECT ((classid::bigint << 32) | objid::bigint) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

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


prober = Prober(
    {
        "database": probe_database,
        "redis": probe_redis,
        "manager": probe_manager,
        "workers": probe_workers,
        "migrations": probe_migrations,
        "stream": probe_stream,
    },
    release=_release,
)

#: Without these nothing works; without the others work waits.
_VITAL = ("database", "redis", "migrations")


@csrf_exempt  # a POST is 405 in JSON like everywhere, not a page about cookies
@require_safe
def live(_request: HttpRequest) -> HttpResponse:
    """Say that this process answers."""
    return JsonResponse({"status": "alive"})


@csrf_exempt
@require_safe
def ready(_request: HttpRequest) -> HttpResponse:
    """Say whether requests can be served: database, migrations, Redis."""
    answers = prober.answers()
    checks = {name: _shown(answers[name]) for name in _VITAL}
    good = all(answers[name].status == HEALTHY for name in _VITAL)
    return _answer("ready" if good else "unready", good=good, checks=checks)


@csrf_exempt
@require_safe
def overall(_request: HttpRequest) -> HttpResponse:
    """Say how every dependency is."""
    answers = {name: found for name, found in prober.answers().items() if name != "stream"}
    status = HEALTHY
    if any(answer.status != HEALTHY for answer in answers.values()):
        status = DEGRADED
    if any(answers[name].status != HEALTHY for name in _VITAL):
        status = UNHEALTHY
    reasons = [f"{name}: {a.reason}" for name, a in answers.items() if a.status != HEALTHY]
    return _answer(
        status,
        good=status == HEALTHY,
        reason="; ".join(reasons),
        dependencies={name: _shown(answer) for name, answer in answers.items()},
    )


@csrf_exempt
@require_safe
def manager(_request: HttpRequest) -> HttpResponse:
    """Say how the manager is: which loops are held, the stream's lag, what waits to be sent."""
    answers = prober.answers()
    found, stream = answers["manager"], answers["stream"]
    return _answer(
        found.status,
        good=found.status == HEALTHY,
        **{key: value for key, value in _shown(found).items() if key != "status"},
        stream=_shown(stream),
    )


def _shown(answer: Answer) -> dict[str, Any]:
    reason = {"reason": answer.reason} if answer.reason else {}
    return {"status": answer.status, **reason, **answer.details}


def _answer(status: str, *, good: bool, **members: Any) -> HttpResponse:
    body = {"status": status, "checked_at": datetime.now(UTC).isoformat(), **members}
    response = JsonResponse(body, status=200 if good else UNAVAILABLE)
    response["Cache-Control"] = "no-store"
    # The reason stands in the answer; a traceback a poll would bury the log.
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 - Django reads it
    return response
