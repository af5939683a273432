"""Django's PostgreSQL backend, over connections whose answers are bounded (`bounded`)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.utils.asyncio import async_unsafe
from django_prometheus.db.common import ExportingCursorWrapper

from engine.postgresql.bounded import Connection

if TYPE_CHECKING:
    import psycopg


class DatabaseWrapper(base.DatabaseWrapper):
    """As Django's, which offers no setting for the class of its connections outside a pool."""

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        """Return a connection of ours (a pool is given the class by its options)."""
        if self.pool:
            pooled: psycopg.Connection[Any] = super().get_new_connection(conn_params)
            return pooled
        self.isolation_level = IsolationLevel.READ_COMMITTED
        return Connection.connect(**conn_params)

    def get_connection_params(self) -> dict[str, Any]:
        """Let web's statements be measured (django_prometheus); it alone has a pool.

        It costs some 10 µs a statement of Django's, which workers and managers do not pay.
        """
        found: dict[str, Any] = super().get_connection_params()
        if self.settings_dict["OPTIONS"].get("pool"):
            found["cursor_factory"] = _measured(found["cursor_factory"], self.alias, self.vendor)
        return found

    def is_usable(self) -> bool:
        """Tell whether the server answers, soon."""
        if self.connection is None:
            return False
        try:
            self.connection.ping()
        except self.Database.Error:
            return False
        return True


@lru_cache(maxsize=8)
def _measured(cursor_class: type[Any], alias: str, vendor: str) -> type[Any]:
    """Return the class once: each request asks for it."""
    found: type[Any] = ExportingCursorWrapper(cursor_class, alias, vendor)
    return found
