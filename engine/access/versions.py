"""The number that rises with every change of keys and revocations: what a process looks at."""

from __future__ import annotations

from engine import sql

#: Two in a row wait for each other: see `engine.models.AccessVersion`.
RAISE = """
INSERT INTO engine_accessversion AS v (id, version) VALUES (1, 1)
ON CONFLICT (id) DO UPDATE SET version = v.version + 1
RETURNING version"""
CURRENT = "SELECT version FROM engine_accessversion WHERE id = 1"


def raised() -> int:
    """Raise the number inside the caller's transaction and return it.

    The first thing such a transaction does, and only then does it touch tokens or sign-ins:
    everybody locks in this order.
    """
    (row,) = sql.rows(RAISE)
    return int(row.version)


def current() -> int:
    """Return the number; 0 before the first change."""
    found = sql.rows(CURRENT)
    return int(found[0].version) if found else 0
