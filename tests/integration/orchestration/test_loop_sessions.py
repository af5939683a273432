"""The session that holds a loop's lock: the server ends it when it falls silent."""

from __future__ import annotations

import time

import psycopg
import pytest
from django.db import connection, connections

from orchestration.manager import loop
from orchestration.manager.loop import Loop
from tests.eventually import eventually

LOCK_HOLDERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"


class Quiet(Loop):
    """A loop whose ticks never touch the database, as while Redis keeps it waiting."""

    name = "quiet"
    interval = 0.05

    def tick(self) -> bool:
        return False


@pytest.fixture
def quiet(transactional_db, stop):
    connection.close()
    yield Quiet(stop=stop)
    connections.close_all()


@pytest.fixture
def holders(transactional_db):
    """How many hold an advisory lock, asked on a connection of its own."""
    kept = connection.get_connection_params()
    chosen = {name: kept[name] for name in kept.keys() - {"context", "cursor_factory"}}
    with psycopg.connect(**chosen, autocommit=True) as other:
        yield lambda: other.execute(LOCK_HOLDERS).fetchone()[0]


def test_loop__a_silent_holder_loses_its_lock_by_the_server(quiet, holders, monkeypatch):
    monkeypatch.setattr(loop, "SILENT_SESSION_SECONDS", 1)
    quiet.turn()
    assert quiet.state == "working"
    assert holders() == 1
    # The process is stopped here: no turn any more.
    began = time.monotonic()
    eventually(lambda: holders() == 0, within=3, what="the server frees the lock")
    print(f"\nfreed after {time.monotonic() - began:.1f} s, told to wait 1 s")
    monkeypatch.setattr(loop, "SPEAK_SECONDS", 0.0)
    quiet.turn()
    assert quiet.state == "waiting", "it knows that its session is gone"
    quiet.turn()
    assert quiet.state == "working"


def test_loop__a_holder_that_has_nothing_to_say_speaks_all_the_same(quiet, holders, monkeypatch):
    monkeypatch.setattr(loop, "SILENT_SESSION_SECONDS", 1)
    monkeypatch.setattr(loop, "SPEAK_SECONDS", 0.2)
    quiet.turn()
    session = connection.connection
    end = time.monotonic() + 2.5
    eventually(lambda: quiet.turn() and time.monotonic() > end, within=4)
    assert connection.connection is session
    assert holders() == 1


def test_loop__bounds_a_session_that_django_opened_by_itself(quiet):
    quiet.turn()
    quiet.reconnected = False
    # What `atomic` does after a COMMIT whose answer was lost.
    connection.close()
    connection.set_autocommit(True)
    quiet.turn()
    assert quiet.state == "working"
    assert quiet.reconnected, "the reaper must know"
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_session_timeout")
        assert cursor.fetchone() == (f"{loop.SILENT_SESSION_SECONDS}s",)
