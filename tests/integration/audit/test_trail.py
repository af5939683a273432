"""What is written of an act, with what it is committed, and that nothing of it is ever changed."""

from __future__ import annotations

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from engine import runs
from engine.audit import origin, trail
from engine.models import AuditRecord
from engine.webhooks import endpoints

pytestmark = pytest.mark.django_db


def test_record__is_rolled_back_with_its_act():
    def act():
        with transaction.atomic():
            trail.record("thing.do", kind="thing", id=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    assert not AuditRecord.objects.exists()


def test_record__says_who_from_where_and_when_by_the_clock_of_the_database():
    here = origin.Origin(source="api", actor="ann", address="192.0.2.1", request_id="r-1")
    with origin.of(here):
        trail.record("thing.do", kind="thing", id=7)
        trail.record("thing.do", kind="thing", id=7, actor="bob", outcome="refused")
    first, second = AuditRecord.objects.order_by("id")
    assert (first.source, first.actor, first.address) == ("api", "ann", "192.0.2.1")
    assert (first.request_id, first.object_kind, first.object_id) == ("r-1", "thing", "7")
    assert (first.outcome, second.outcome, second.actor) == ("done", "refused", "bob")
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp(), pg_current_xact_id()::text::bigint")
        now, number = cursor.fetchone()
    assert first.at < second.at < now
    assert first.transaction_id == number


def test_record__keeps_only_what_is_listed_and_bounds_it():
    after = {
        "state": "x" * 1000,
        "tags": [str(n) for n in range(100)],
        "priority": 5,
        "paused": True,
        "name": "half \ud800 and nul \x00",
        "cron": {"nested": "payload"},
        "input": {"iban": "secret"},
        "password": "secret",
    }
    trail.record("thing.do", kind="thing", id="x" * 1000, after=after, actor="y" * 1000)
    found = AuditRecord.objects.get()
    assert found.after == {
        "state": "x" * trail.MAX_TEXT,
        "tags": [str(n) for n in range(trail.MAX_ITEMS)],
        "priority": 5,
        "paused": True,
        "name": "half ? and nul ",
        "cron": "(dict)",
    }
    assert (len(found.object_id), len(found.actor)) == (trail.MAX_ID, trail.MAX_ACTOR)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE engine_auditrecord SET actor = 'nobody'",
        "DELETE FROM engine_auditrecord",
        "TRUNCATE engine_auditrecord",
    ],
)
def test_record__is_refused_to_be_changed_even_by_the_owner(statement):
    trail.record("thing.do", kind="thing", id=1)
    with connection.cursor() as cursor:
        # The tests themselves empty tables; inside this transaction the guard stands as it ships.
        cursor.execute("ALTER TABLE engine_auditrecord ENABLE TRIGGER never_emptied")
    with (
        pytest.raises((DatabaseError, psycopg.Error), match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_cancel__and_its_record_are_one_transaction(line, monkeypatch):
    run_id = runs.submit(automation="lab.squares", input={}, trigger="api").run_id

    def broken(*_args, **_values):
        raise ZeroDivisionError

    monkeypatch.setattr(trail, "record", broken)
    with pytest.raises(ZeroDivisionError):
        runs.cancel(run_id=run_id, actor="ann")
    assert runs._state(run_id) == "pending"


def test_webhook__that_is_told_elsewhere_at_the_same_host_shows_it():
    made, _secret = endpoints.create(url="https://hooks.example.org/T1/s3cret", actor="ann")
    endpoints.change(endpoint_id=made.pk, url="https://hooks.example.org/T2/s3cret", actor="eve")
    found = AuditRecord.objects.get(action="webhook.change")
    assert (found.actor, set(found.before), set(found.after)) == (
        "eve",
        {"url_sha256"},
        {"url_sha256"},
    )
    assert found.before != found.after
    assert "s3cret" not in str([list(AuditRecord.objects.values("before", "after"))])
