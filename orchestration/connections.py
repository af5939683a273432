"""Database connections of worker processes: they outlive tasks, so somebody must mind them."""

from __future__ import annotations

import django.db

from engine import sql

#: What the database, or the way to it, raises when it is away.
DATABASE_ERRORS: tuple[type[Exception], ...] = (
    *sql.CONNECTION_ERRORS,
    django.db.OperationalError,
    django.db.InterfaceError,
)


def mend(*, idle: bool = False) -> None:
    """Drop connections that an error or a restart of PostgreSQL has broken; the next use opens new.

    Costs no query, unless the connection saw an error or was `idle`: then it is asked once.
    """
    for connection in django.db.connections.all(initialized_only=True):
        raw = connection.connection
        if raw is None:
            continue
        if raw.closed:
            # Known to psycopg alone: the engine's statements do not pass through Django's cursor.
            connection.close()
        elif connection.errors_occurred or idle:
            connection.close_if_unusable_or_obsolete()
            connection.close_if_health_check_failed()
