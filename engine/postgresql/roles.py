"""What the application's role may do in a database that belongs to another one, as SQL. Pure.

The owner makes and changes tables. The application reads and writes rows; to the audit trail it
adds records and seals, and the clock and the number of a record are the database's, not its own.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

#: The application's role in the embedded database.
APPLICATION = "engine_app"
#: Rows of these are added and read, never changed: table -> the columns the application may give.
APPEND_ONLY: dict[str, tuple[LiteralString, ...]] = {
    "engine_auditrecord": (
        *("source", "actor", "action", "outcome", "object_kind", "object_id", "address"),
        *("request_id", "before", "after"),
    ),
    "engine_auditseal": (
        *("number", "at", "record_ids", "record_digests", "digest", "previous", "horizon"),
    ),
}
#: Only the owner writes these.
READ_ONLY = ("django_migrations",)

_GENERAL: tuple[LiteralString, ...] = (
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
    # Of tables that the owner makes from now on.
    (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public"
        " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}"
    ),
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role}",
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
)
EXISTING = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)
"""
#: Whether who asks could change the trail: owns it, is a member of its owner, a superuser, or has
#: more rights in it than to add.
OWNS = """
SELECT pg_has_role(current_user, c.relowner, 'MEMBER')
    OR has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
    OR has_column_privilege(c.oid, 'at', 'INSERT') AS owns
FROM pg_class c WHERE c.oid = to_regclass('engine_auditrecord')
"""


def create(role: str) -> sql.Composed:
    """Return the statement that makes a role which may sign in, unless it is there."""
    return sql.SQL(
        "DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN"
        " CREATE ROLE {role} LOGIN; END IF; END $do$"
    ).format(name=sql.Literal(role), role=sql.Identifier(role))


def grants(role: str, *, tables: set[str]) -> list[sql.Composed]:
    """Return the statements that give a role its rights; `tables` are those that exist.

    The owner of the tables runs them, in one transaction: there is no moment with more rights.
    """
    name = sql.Identifier(role)
    found = [sql.SQL(text).format(role=name) for text in _GENERAL]
    for table in sorted(tables.intersection([*APPEND_ONLY, *READ_ONLY])):
        subject = {"table": sql.Identifier(table), "role": name}
        found.append(sql.SQL("REVOKE ALL ON {table} FROM {role}").format(**subject))
        found.append(sql.SQL("GRANT SELECT ON {table} TO {role}").format(**subject))
        if table in APPEND_ONLY:
            columns = sql.SQL(", ").join(map(sql.Identifier, APPEND_ONLY[table]))
            insert = sql.SQL("GRANT INSERT ({columns}) ON {table} TO {role}")
            found.append(insert.format(columns=columns, **subject))
    return found
