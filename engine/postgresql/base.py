"""Django's PostgreSQL backend, over connections whose answers are bounded (`bounded`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.utils.asyncio import async_unsafe

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

    def is_usable(self) -> bool:
        """Tell whether the server answers, soon."""
        if self.connection is None:
            return False
        try:
            self.connection.ping()
        except self.Database.Error:
            return False
        return True
