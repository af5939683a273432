"""Answers of the database that do not come, and what the server is told about silent clients."""

from __future__ import annotations

import time

import psycopg
import pytest
from django.db import connection, connections

from engine import sql
from engine.postgresql import bounded


@pytest.fixture
def parameters(transactional_db):
    """What Django would connect with."""
    kept = connection.get_connection_params()
    return {name: kept[name] for name in kept.keys() - {"context", "cursor_factory"}}


@pytest.fixture
def opened(parameters):
    """Open connections that are closed with the test."""
    found = []

    def connect(**changes):
        found.append(bounded.Connection.connect(**parameters | changes, autocommit=True))
        return found[-1]

    yield connect
    for one in found:
        one.close()


@pytest.fixture
def bounded_process(monkeypatch):
    """The bound of a long-lived process, for this test."""

    def bound(seconds: float) -> None:
        monkeypatch.setattr(bounded._Process, "answer_seconds", seconds)

    yield bound
    connections.close_all()


def test_connection__is_closed_when_an_answer_takes_too_long(opened, bounded_process):
    slow = opened()
    bounded_process(0.3)
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match=r"no answer within 0\.3 s"):
        slow.execute("SELECT pg_sleep(3)")
    assert 0.3 <= time.monotonic() - began < 1.0
    assert slow.closed
    assert slow.broken, "so that a pool throws it away"
    with pytest.raises(psycopg.OperationalError):
        slow.execute("SELECT 1")


def test_connection__takes_its_time_in_a_process_without_a_bound(opened):
    assert opened().execute("SELECT pg_sleep(0.4)").fetchone() is not None


def test_connection__an_error_of_the_server_leaves_it_open(opened, bounded_process):
    bounded_process(5)
    found = opened()
    with pytest.raises(psycopg.errors.UndefinedTable):
        found.execute("SELECT * FROM nothing_at_all")
    with pytest.raises(psycopg.errors.QueryCanceled):
        found.execute("SET statement_timeout = 50; SELECT pg_sleep(2)")
    assert not found.closed
    assert found.execute("SELECT 1").fetchone() == (1,)


def test_connection__tells_the_server_how_long_to_wait_for_us(opened, bounded_process):
    def shown(found, name):
        return found.execute(f"SHOW {name}").fetchone()[0]

    assert shown(opened(), "statement_timeout") == "0", "a command may take its time"
    bounded_process(15)
    found = opened()
    assert shown(found, "statement_timeout") == "14s"
    assert shown(found, "idle_in_transaction_session_timeout") == "10s"
    given = opened(options="-c statement_timeout=2000")
    assert shown(given, "statement_timeout") == "2s", "what is said by name comes last"
    behind_pgbouncer = opened(prepare_threshold=None)
    assert shown(behind_pgbouncer, "statement_timeout") == "0"


def test_connection__looks_up_by_index_what_was_empty_when_it_was_planned(
    opened, bounded_process, transactional_db
):
    bounded_process(15)
    found = opened()
    found.execute("CREATE TEMP TABLE parent (id int PRIMARY KEY)")
    found.execute("CREATE TEMP TABLE child (parent_id int REFERENCES parent)")
    found.execute("ANALYZE parent, child")

    def readings() -> int:
        found.execute("SELECT pg_stat_force_next_flush()")
        return found.execute(
            "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'parent'::regclass"
        ).fetchone()[0]

    before = readings()
    for number in range(10):
        # The check of a foreign key is a statement like ours: planned once a session.
        found.execute("INSERT INTO parent VALUES (%s)", [number], prepare=True)
        found.execute("INSERT INTO child VALUES (%s)", [number], prepare=True)
    assert readings() == before


def test_django__sees_that_the_connection_is_lost_and_opens_another(
    transactional_db, bounded_process
):
    connection.close()
    bounded_process(0.3)
    with pytest.raises(sql.CONNECTION_ERRORS):
        sql.rows("SELECT pg_sleep(3)")
    assert sql.is_connection_lost()
    connection.close()
    assert sql.rows("SELECT 1 AS one")[0].one == 1
