"""Rows of runs with the numbers of their versions, by prepared statements.

What the API asks most often. Django builds and translates the same statement anew each time: two
milliseconds for one run, which is a third of what answering a submission costs (tests/bench).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, models

from engine import sql
from engine.models import AutomationVersion, Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

#: Of a version: large, and nobody who shows a run shows it. Loaded when it is asked for after all.
NOT_OF_VERSION = frozenset({"graph", "input_schema"})
#: Of a run in a list, likewise.
NOT_IN_LISTS = frozenset({"input"})

_ONE = "WHERE run.id = %(id)s"
_MANY = "WHERE run.id = ANY(%(ids)s::uuid[]) ORDER BY run.id DESC"


def one(*, run_id: UUID) -> Run | None:
    """Return a run, or None."""
    found = _read(frozenset(), _ONE, {"id": run_id})
    return found[0] if found else None


def many(*, ids: Sequence[UUID]) -> list[Run]:
    """Return those of the runs that there are, newest first, without their inputs."""
    return _read(NOT_IN_LISTS, _MANY, {"ids": sql.array(map(str, ids))}) if ids else []


def _read(without: frozenset[str], where: str, values: dict[str, Any]) -> list[Run]:
    return [_run(row, without) for row in sql.rows(_statement(without, where), values)]


@cache
def _statement(without: frozenset[str], where: str) -> str:
    tables = Run._meta.db_table, AutomationVersion._meta.db_table  # noqa: SLF001 - documented by Django
    columns = [f"run.{field.column}" for field in _fields(Run, without)]
    # Two columns of one name are refused, and both tables have an id.
    columns += [
        f"version.{field.column} AS of_version_{field.column}"
        for field in _fields(AutomationVersion, NOT_OF_VERSION)
    ]
    return sql.compact(
        f"SELECT {', '.join(columns)} FROM {tables[0]} run "  # noqa: S608 - our own names
        f"JOIN {tables[1]} version ON version.id = run.version_id {where}"
    )


def _run(row: Sequence[Any], without: frozenset[str]) -> Run:
    fields = _fields(Run, without)
    run: Run = _loaded(Run, fields, row[: len(fields)])
    versions = _fields(AutomationVersion, NOT_OF_VERSION)
    run.version = _loaded(AutomationVersion, versions, row[len(fields) :])
    return run


def _loaded(model: Any, fields: Sequence[models.Field[Any, Any]], values: Sequence[Any]) -> Any:
    plain = [
        sql.parsed(value) if isinstance(field, models.JSONField) else value
        for field, value in zip(fields, values, strict=True)
    ]
    return model.from_db(DEFAULT_DB_ALIAS, [field.attname for field in fields], plain)


@cache
def _fields(
    model: type[models.Model], without: frozenset[str]
) -> tuple[models.Field[Any, Any], ...]:
    every = model._meta.concrete_fields  # noqa: SLF001 - documented by Django
    return tuple(field for field in every if field.name not in without)
