"""Run the hot statements on a prepared psycopg cursor; Django's own cursor never prepares.

The connection is Django's, so `transaction.atomic` and these statements share transactions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.utils import InterfaceError, OperationalError
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: What a broken or vanished connection raises: from psycopg itself, and from Django where it opens
#: one or begins a transaction.
CONNECTION_ERRORS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    OperationalError,
    InterfaceError,
)
#: Two transactions waited for each other, or one waited too long: nothing was done, try again.
LOCK_ERRORS = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)
LOCK_TRIES = 5

T = TypeVar("T")


def rows(statement: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
    """Execute and return all rows as named tuples (jsonb comes as text: see `parsed`)."""
    with psycopg.Cursor(_connected(), row_factory=namedtuple_row) as cursor:
        cursor.execute(statement, parameters, prepare=True)
        result = cursor.pgresult
        return cursor.fetchall() if result is not None and result.nfields else []


def count(statement: str, parameters: Mapping[str, Any] | None = None) -> int:
    """Execute and return the number of rows it touched."""
    with psycopg.Cursor(_connected()) as cursor:
        cursor.execute(statement, parameters, prepare=True)
        return cursor.rowcount


def _connected() -> psycopg.Connection[Any]:
    """Return this thread's connection, opened if need be; each word to the proxy costs 1 µs."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.connection is None:
        wrapper.ensure_connection()
    return wrapper.connection  # type: ignore[no-any-return] # psycopg's own, under Django's name


def compact(statement: str) -> str:
    """Return a statement without its indentation; no literal in it may hold two spaces in a row.

    psycopg remembers how it has translated a statement up to 4,096 characters, and translates a
    longer one again each time it is executed (0.1 ms).
    """
    return " ".join(statement.split())


def is_connection_lost() -> bool:
    """Tell whether the last error took this thread's connection with it."""
    return connection.connection is None or bool(connection.connection.closed)


def jsonb(value: Any) -> Jsonb:
    """Wrap a value for a jsonb parameter."""
    return Jsonb(value)


def array(values: Iterable[str | int]) -> str:
    """Return PostgreSQL's text of an array, for a parameter with a cast (`%(ids)s::bigint[]`).

    psycopg spends 15 µs on each list, which is much for one that is the same each time.
    """
    quoted = ('"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"


def parsed(value: Any) -> Any:
    """Return a jsonb column's value: Django's connection hands it over as text."""
    return json.loads(value) if isinstance(value, str | bytes) else value


def patiently(action: Callable[[], T]) -> T:
    """Run a short transaction again when it lost a lock to another one."""
    for _ in range(LOCK_TRIES - 1):
        try:
            with transaction.atomic():
                return action()
        except LOCK_ERRORS:
            continue
    with transaction.atomic():
        return action()
