"""Fixtures every test may ask for."""

from __future__ import annotations

import pytest

from tests import legal_moves
from tests.outside import Outside


@pytest.fixture(autouse=True)
def nothing_known_of_tokens():
    """Each test has a database of its own; the process remembers what it last heard of one."""
    from engine.access import snapshot  # noqa: PLC0415 - needs settings

    snapshot.forget()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Let tests empty the audit trail as they empty every table, by TRUNCATE; nobody else may."""
    from django.db import connection  # noqa: PLC0415 - needs settings

    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for table in ("engine_auditrecord", "engine_auditseal"):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER never_emptied")


@pytest.fixture
def broker():
    """An empty Redis."""
    from orchestration import streams  # noqa: PLC0415 - needs settings

    client = streams.client()
    client.flushall()
    yield client
    client.flushall()


@pytest.fixture
def ledger(transactional_db):
    """The table in which writing steps leave one row each; doubled effects violate its key."""
    from django.db import connection  # noqa: PLC0415 - needs settings

    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS lab_ledger (run_id uuid, step text, map_index int,"
            " PRIMARY KEY (run_id, step, map_index))"
        )
        cursor.execute("TRUNCATE lab_ledger")

    def rows() -> list[tuple[str, int]]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT step, map_index FROM lab_ledger ORDER BY 1, 2")
            return cursor.fetchall()

    return rows


@pytest.fixture
def legal_moves_only(transactional_db):
    """Every move of a run or step is checked by the database against `engine.states`."""
    legal_moves.install()


@pytest.fixture
def line(legal_moves_only):
    """A line of messages that this test delivers by hand, over a synced catalog."""
    from departments import sync  # noqa: PLC0415 - needs settings
    from engine import publishing  # noqa: PLC0415 - needs settings
    from tests.line import Line  # noqa: PLC0415 - needs settings

    found = Line()
    before = publishing._publisher
    publishing.register(found)
    sync.sync_catalog()
    yield found
    publishing.register(before)


@pytest.fixture
def outside():
    """Another system, reached by HTTP; it counts the calls it is given by their key."""
    with Outside() as found:
        yield found
