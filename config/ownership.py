"""Owner and application are two roles: tables are changed as the one, worked with as the other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection, transaction

from engine.postgresql import roles

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGIN = ("HOST", "PORT", "NAME", "USER", "PASSWORD", "OPTIONS")


@contextmanager
def as_owner() -> Iterator[None]:
    """Use the database as its owner (`DATABASE_OWNER_URL`); without one, as the application."""
    owner = settings.OWNER_DATABASE
    if owner is None:
        yield
        return
    usual = {name: connection.settings_dict[name] for name in _LOGIN}
    connection.close()
    connection.settings_dict.update({name: owner[name] for name in _LOGIN})
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(usual)


def grant(role: str) -> None:
    """Give the application's role its rights in this database; call it as the owner."""
    wanted = [*roles.APPEND_ONLY, *roles.READ_ONLY]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(roles.EXISTING, [wanted])
        tables = {name for (name,) in cursor.fetchall()}
        for statement in roles.grants(role, tables=tables):
            cursor.execute(statement)
