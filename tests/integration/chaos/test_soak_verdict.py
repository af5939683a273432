"""The oracle of the soak sees each kind of damage, and nothing where there is none."""

from __future__ import annotations

import importlib
import sys

import psycopg
import pytest
from django.db import connection

from engine import outbox, registry, runs
from tests.chaos.soak import load, marks, verdict

CATALOG = ("tests.chaos.soak.catalog.mill", "tests.chaos.soak.catalog.books")
ASKED = [("mill", "chain"), ("books", "chain"), ("books", "fan"), ("mill", "diamond")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "side").mkdir()
    monkeypatch.setenv(marks.FOLDER, str(tmp_path))
    return tmp_path


@pytest.fixture
def catalog():
    """The soak's automations, for these tests only: others count what the catalog holds."""
    kept = [
        (found, dict(found))
        for found in (registry.departments, registry.steps, registry.automations)
    ]
    for module in CATALOG:
        sys.modules.pop(module, None)
        importlib.import_module(module)
    yield
    for found, before in kept:
        found.clear()
        found.update(before)


@pytest.fixture
def database(transactional_db):
    with psycopg.connect(_dsn(), autocommit=True) as link:
        link.execute(marks.TABLES)
        link.execute("TRUNCATE soak_ledger, soak_tally")
        yield link
        link.execute("DROP TABLE soak_ledger, soak_tally")


def _dsn() -> str:
    values = connection.settings_dict
    return psycopg.conninfo.make_conninfo(
        dbname=values["NAME"],
        user=values["USER"],
        host=values["HOST"],
        port=values["PORT"] or None,
        password=values["PASSWORD"],
    )


def asked_for(number: int, automation: str) -> load.Ticket:
    ticket = load.Ticket(
        key=f"soak-{number}",
        kind="chain",
        automation=automation,
        input={"number": number, "count": 4},
        door="engine",
        dedupe_key=f"soak-{number}",
    )
    found = runs.submit(
        automation=automation, input=ticket.input, trigger="command", dedupe_key=ticket.key
    )
    ticket.run_id, ticket.accepted_at = str(found.run_id), 1.0
    return ticket


@pytest.fixture
def tickets(folder, catalog, database, line):
    """Four runs, each at its good end."""
    found = [asked_for(number, ".".join(names)) for number, names in enumerate(ASKED)]
    line.deliver()
    outbox.relay(limit=500, send=lambda events: None)
    return found


def test_verdict__nothing_is_wrong_with_an_undisturbed_soak(tickets, database, folder):
    found = verdict.judge(database, tickets, folder)
    assert found.failures == {}
    assert found.figures["ends"] == {("chain", "succeeded"): 4}
    assert found.figures["outputs checked"] == 4
    assert found.figures["effects"] == 3 + 6
    assert found.figures["bodies run"] == 3 + 3 + 6 + 4


DAMAGE = {
    "a run is gone": ("lost", "DELETE FROM engine_run WHERE dedupe_key = 'soak-3'"),
    "an effect is gone": ("lost", "DELETE FROM soak_ledger WHERE map_index = 2"),
    "an effect stands twice": ("doubled", "INSERT INTO soak_tally TABLE soak_tally LIMIT 1"),
    "an effect of nothing": (
        "wrong",
        "INSERT INTO soak_ledger SELECT run_id, 'work_9', -1 FROM soak_ledger LIMIT 1",
    ),
    "an output is wrong": (
        "wrong",
        (
            "UPDATE engine_stepoutput SET value = '1' WHERE step_run_id ="
            " (SELECT max(id) FROM engine_steprun WHERE key = 'total')"
        ),
    ),
    "a lease is left": (
        "stuck",
        (
            "INSERT INTO engine_lease (claim, worker, expires_at)"
            " VALUES (gen_random_uuid(), 'w', now())"
        ),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_verdict__sees_damage_in_the_database(damage, tickets, database, folder):
    heading, statement = DAMAGE[damage]
    with database.transaction():
        # Foreign keys and triggers are what the platform relies on; damage passes them by.
        database.execute("SET LOCAL session_replication_role = replica")
        assert database.execute(statement).rowcount > 0
    assert list(verdict.judge(database, tickets, folder).failures) == [heading]


def test_verdict__sees_a_run_that_stands_still(tickets, database, folder, line):
    waiting = asked_for(9, "mill.single")
    found = verdict.judge(database, [*tickets, waiting], folder)
    assert list(found.failures) == ["stuck"]
    assert waiting.run_id in found.stuck[0]


def test_verdict__sees_a_run_nobody_asked_for(tickets, database, folder):
    found = verdict.judge(database, tickets[1:], folder)
    assert list(found.failures) == ["doubled"]


def test_verdict__sees_an_end_that_may_not_be(tickets, database, folder):
    tickets[0].plan = "cancel"
    assert verdict.judge(database, tickets, folder).failures == {}
    runs.cancel(run_id=asked_for(8, "mill.single").run_id, actor="")
    cancelled = load.Ticket(
        key="soak-8", kind="chain", automation="mill.single", input={}, dedupe_key="soak-8"
    )
    cancelled.accepted_at = 1.0
    (cancelled.run_id,) = database.execute(
        "SELECT id::text FROM engine_run WHERE dedupe_key = 'soak-8'"
    ).fetchone()
    outbox.relay(limit=500, send=lambda events: None)
    found = verdict.judge(database, [*tickets, cancelled], folder)
    assert found.failures == {"wrong": [f"soak-8 (chain): run {cancelled.run_id} ended cancelled"]}


def test_verdict__sees_a_refused_double_and_a_body_that_never_ran(tickets, database, folder):
    (folder / "violations.log").write_text("run work 0 2\n")
    (log,) = (folder / "side").iterdir()
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))
    found = verdict.judge(database, tickets, folder)
    assert [len(found.doubled), len(found.wrong)] == [1, 1]


def test_marks__a_doubled_effect_is_noted_and_undone(tickets, database, folder, line):
    """The key of the ledger refuses; the note outlives the rollback."""
    writing = asked_for(7, "books.single")
    database.execute(
        "INSERT INTO soak_ledger (run_id, step, map_index) VALUES (%s, 'work', -1)",
        [writing.run_id],
    )
    line.deliver()
    assert (folder / "violations.log").read_text().split()[0] == writing.run_id
    found = verdict.judge(database, [*tickets, writing], folder)
    assert len(found.doubled) == 1
    assert "stuck" in found.failures
