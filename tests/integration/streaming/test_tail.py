"""How far the history is final, while others write it: what commits late, and what never does."""

from __future__ import annotations

import pytest

from engine.streaming import entries
from engine.streaming import tail as tail_module
from engine.streaming.tail import MOST_MARKS, Tail
from tests.eventually import eventually

INSERT = (
    "INSERT INTO engine_runevent (run_id, kind, actor, data, at)"
    " VALUES (%s, 'step.warning', '', '{}', clock_timestamp()) RETURNING id"
)


@pytest.fixture
def tail():
    found = Tail()
    yield found
    found.close()


def insert(connection, run_id) -> int:
    return connection.execute(INSERT, [run_id]).fetchone()[0]


def reaches(tail, position) -> None:
    eventually(lambda: tail.look() == position, within=10, what=f"position {position}")


def test_position__stays_below_a_transaction_that_is_open(tail, run_id, connect):
    late, soon = connect(), connect(autocommit=True)
    before = insert(soon, run_id)
    reaches(tail, before)
    low = insert(late, run_id)
    high = insert(soon, run_id)
    assert low < high
    for _ in range(3 * MOST_MARKS):
        high = insert(soon, run_id)
        assert tail.look() == before
    late.commit()
    reaches(tail, high)
    told = entries.of_runs(tail.rows, runs=[run_id], after=before, upto=high, limit=1000)
    assert low in [entry.id for entry in told]


def test_position__passes_what_was_rolled_back(tail, run_id, connect):
    late, soon = connect(), connect(autocommit=True)
    void = insert(late, run_id)
    high = insert(soon, run_id)
    late.rollback()
    reaches(tail, high)
    told = entries.of_runs(tail.rows, runs=[run_id], after=void - 1, upto=high, limit=1000)
    assert [entry.id for entry in told] == [high]


def test_position__does_not_wait_for_those_who_write_elsewhere(tail, run_id, connect):
    other, soon = connect(), connect(autocommit=True)
    other.execute("UPDATE engine_lane SET paused = paused")
    reaches(tail, insert(soon, run_id))


def test_look__asks_one_thing_while_nothing_happens(tail, run_id, connect, monkeypatch):
    reaches(tail, insert(connect(autocommit=True), run_id))
    asked = []
    rows = tail.rows
    monkeypatch.setattr(tail, "rows", lambda *words: asked.append(words) or rows(*words))
    tail.look()
    assert len(asked) == 1


def test_position__waits_until_a_crash_of_the_server_cannot_take_it_back(
    tail, run_id, connect, monkeypatch
):
    """Claims are committed without waiting for the disk; a lost id would come again."""
    soon = connect(autocommit=True)
    reaches(tail, insert(soon, run_id))
    rows = tail.rows
    end = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"
    flushed = rows(tail_module.LOG)[0][1]
    # The disk stands still as far as anybody can see.
    monkeypatch.setattr(
        tail,
        "rows",
        lambda words, *more: (
            [(rows(end)[0][0], flushed)] if words == tail_module.LOG else rows(words, *more)
        ),
    )
    before = tail.look()
    high = insert(soon, run_id)
    assert {tail.look() for _ in range(20)} == {before}
    monkeypatch.undo()
    reaches(tail, high)
