"""The application's role: it works with the tables, owns none, and only adds to the audit trail."""

from __future__ import annotations

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from engine.audit import trail
from engine.models import AuditRecord, AuditSeal
from engine.postgresql import roles

pytestmark = pytest.mark.django_db(transaction=True)

ROLE = "abe_test_application"
RECORD = dict.fromkeys(("id", "actor", "address", "request_id"), "") | {
    "source": "api",
    "action": "thing.do",
    "outcome": "done",
    "kind": "thing",
    "before": None,
    "after": None,
}


@pytest.fixture
def application():
    """The test's database, as the application signs in to it where it is not the owner."""
    role = ROLE
    with connection.cursor() as cursor:
        cursor.execute(roles.create(role))
        cursor.execute(roles.EXISTING, [[*roles.APPEND_ONLY, *roles.READ_ONLY]])
        tables = {name for (name,) in cursor.fetchall()}
        for statement in roles.grants(role, tables=tables):
            cursor.execute(statement)
    given = connection.get_connection_params() | {"user": role, "cursor_factory": psycopg.Cursor}
    given.pop("context", None)
    try:
        with psycopg.connect(**given, autocommit=True) as link:
            yield link
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE engine_auditrecord SET actor = 'nobody'",
        "DELETE FROM engine_auditrecord",
        "TRUNCATE engine_auditrecord",
        "DROP TABLE engine_auditrecord",
        "ALTER TABLE engine_auditrecord DISABLE TRIGGER ALL",
        "ALTER TABLE engine_auditrecord OWNER TO CURRENT_USER",
        "DROP TRIGGER append_only ON engine_auditrecord",
        (
            "CREATE OR REPLACE FUNCTION engine_audit_refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END'"
        ),
        "SET session_replication_role = replica",
        "INSERT INTO engine_auditrecord (at) VALUES ('2020-01-01')",
        "INSERT INTO engine_auditrecord (transaction_id) VALUES (1)",
        "INSERT INTO engine_auditrecord (id) VALUES (1)",
        "SELECT setval('engine_auditrecord_id_seq', 1)",
        "UPDATE engine_auditseal SET digest = 'x'",
        "DELETE FROM engine_auditseal",
        "TRUNCATE engine_auditseal",
        "DELETE FROM django_migrations",
        "TRUNCATE engine_run",
        "ALTER TABLE engine_run ADD COLUMN x int",
        "CREATE TABLE mine (id int)",
        "SET ROLE engine",
    ],
)
def test_application__is_refused(application, statement):
    application.execute(trail.INSERT, RECORD)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute(statement)
    assert AuditRecord.objects.get().actor == ""


def test_application__adds_records_and_seals_and_works_with_all_other_tables(application):
    application.execute(trail.INSERT, RECORD)
    row = AuditRecord.objects.get()
    assert row.at is not None
    application.execute(
        "INSERT INTO engine_auditseal (number, at, record_ids, record_digests, digest, previous,"
        " horizon) VALUES (1, now(), ARRAY[%s]::bigint[], ARRAY['d'], 'd', 'p', 1)",
        [row.pk],
    )
    assert AuditSeal.objects.count() == 1
    for statement in (
        "INSERT INTO engine_lane (slug, queue, paused) VALUES ('x', 'x', false)",
        "UPDATE engine_lane SET paused = true WHERE slug = 'x'",
        "DELETE FROM engine_lane WHERE slug = 'x'",
        "SELECT engine_analyze('engine_run')",
        "SELECT count(*) FROM django_migrations",
    ):
        application.execute(statement)


def test_application__may_use_tables_that_the_owner_makes_later(application):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE later (id bigserial, n int)")
    try:
        application.execute("INSERT INTO later (n) VALUES (1)")
        application.execute("UPDATE later SET n = 2")
        assert application.execute("SELECT n FROM later").fetchone() == (2,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute("TRUNCATE later")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE later")


def test_owns__tells_the_owner_from_the_application(application):
    from engine.audit import sealing  # noqa: PLC0415 - beside what it is compared with

    assert sealing.is_owned()
    assert application.execute(roles.OWNS).fetchone() == (False,)


def test_analyze__takes_tables_of_the_engine_only(application):
    with pytest.raises(psycopg.errors.RaiseException):
        application.execute("SELECT engine_analyze('auth_user')")


def test_owns__tells_who_has_more_rights_than_to_add(application):
    with connection.cursor() as cursor:
        for right in ("UPDATE", "DELETE", "INSERT (at)"):
            cursor.execute(f"GRANT {right} ON engine_auditrecord TO {ROLE}")
            assert application.execute(roles.OWNS).fetchone() == (True,), right
            cursor.execute(f"REVOKE {right} ON engine_auditrecord FROM {ROLE}")
    assert application.execute(roles.OWNS).fetchone() == (False,)


def test_migrate__leaves_the_application_what_it_needs_and_no_more(application, settings):
    """As in a new database: the application is given all rights in each table that is made."""
    usual = connection.settings_dict["USER"]
    settings.OWNER_DATABASE = dict(connection.settings_dict)
    with connection.cursor() as cursor:
        for table in (*roles.APPEND_ONLY, *roles.READ_ONLY):
            cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
    assert application.execute(roles.OWNS).fetchone() == (True,)
    connection.close()
    connection.settings_dict["USER"] = ROLE
    try:
        call_command("migrate", verbosity=0)
    finally:
        connection.close()
        connection.settings_dict["USER"] = usual
    assert application.execute(roles.OWNS).fetchone() == (False,)
    application.execute(trail.INSERT, RECORD)
    for statement in (
        "INSERT INTO engine_auditrecord (at) VALUES ('2020-01-01')",
        "UPDATE django_migrations SET name = 'x'",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute(statement)
