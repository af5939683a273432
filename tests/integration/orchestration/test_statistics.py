"""Tables that outgrow their statistics: PostgreSQL is told, and plans its statements anew."""

from __future__ import annotations

import pytest
from django.db import connection

from engine import sql
from orchestration.manager.statistics import OUTGROWN, TABLES, Statistics
from tests import seed


@pytest.fixture(autouse=True)
def _release_locks(transactional_db):
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


def outgrown() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(OUTGROWN, [list(TABLES), 4, 10])
        return {table for (table,) in cursor.fetchall()}


def test_statistics__of_tables_that_have_grown_are_taken(transactional_db, stop, monkeypatch):
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM (ANALYZE) {', '.join(TABLES)}")
        cursor.execute("ALTER TABLE engine_steprun SET (autovacuum_enabled = off)")
    try:
        with monkeypatch.context() as quiet:
            # As load does it: rows come, and nobody counts them.
            quiet.setattr(seed, "TABLES", "engine_lease")
            seed.finish(runs=2000)
        assert "engine_steprun" in outgrown()
        Statistics(stop=stop).turn()
        assert not outgrown()
        (known,) = sql.rows("SELECT reltuples FROM pg_class WHERE relname = 'engine_steprun'")[0]
        assert 5000 < known < 7000
        Statistics(stop=stop).turn()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE engine_steprun RESET (autovacuum_enabled)")
