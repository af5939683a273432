"""A connection beside Django's: of one thread, outside the pool, every statement its own commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS, connections

from engine.postgresql.bounded import Connection

if TYPE_CHECKING:
    from typing import Any

#: Django's cursor factory and context belong to Django's own connections.
_DJANGOS = frozenset({"cursor_factory", "context", "pool"})


def connect(*, name: str, options: dict[str, str]) -> Connection:
    """Open a connection to the default database; `name` is what the server shows it under.

    options: parameters of the session. Not sent behind PgBouncer, which refuses them.
    """
    given: dict[str, Any] = connections[DEFAULT_DB_ALIAS].get_connection_params()
    kept = {key: value for key, value in given.items() if key not in _DJANGOS}
    if kept.get("prepare_threshold") is not None:
        kept["options"] = " ".join(f"-c {key}={value}" for key, value in options.items())
    return Connection.connect(**kept | {"application_name": name}, autocommit=True)
