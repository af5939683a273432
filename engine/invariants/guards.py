"""I3, I5, I9, I11: the constraints that make the database itself refuse are all there.

A dump restored with errors, or an index built CONCURRENTLY that failed, leaves a database that
works and promises nothing.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps

from engine.invariants.surveys import Check, Survey


def _declared() -> dict[str, Any]:
    found = [
        (model._meta.db_table, constraint.name)  # noqa: SLF001 - Django's public API has this name
        for model in apps.get_app_config("engine").get_models()
        for constraint in model._meta.constraints  # noqa: SLF001 - same
    ]
    return {
        "guard_tables": [table for table, _name in found],
        "guard_names": [name for _table, name in found],
    }


GUARDS = Survey(
    name="guards",
    source="""
        FROM unnest(%(guard_tables)s::text[], %(guard_names)s::text[]) AS g(table_name, name)
        LEFT JOIN pg_constraint c ON c.conname = g.name
            AND c.conrelid = to_regclass(g.table_name) AND c.convalidated
        LEFT JOIN pg_index i ON i.indexrelid = to_regclass(g.name)
            AND i.indrelid = to_regclass(g.table_name) AND i.indisvalid AND i.indisunique""",
    facts={"table": "g.table_name", "name": "g.name"},
    checks=(
        Check(
            name="constraints_are_in_force",
            invariant="I3",
            broken="c.oid IS NULL AND i.indexrelid IS NULL",
            says="the constraint {name} of {table} is missing or not valid",
            remedy="Compare with `manage.py sqlmigrate` and create it again; it may find doubles.",
        ),
    ),
    parameters=_declared,
)
