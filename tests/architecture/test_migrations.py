"""Migrations expand: the workers of the version before go on writing while the new ones start."""

from __future__ import annotations

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import NOT_PROVIDED

ROOMS = {"config", "orchestration", "departments", "engine"}
#: Migrations that take something away, each a release after the code stopped using it: why.
CONTRACTIONS: dict[tuple[str, str], str] = {}
TAKING_AWAY = (
    migrations.RemoveField,
    migrations.DeleteModel,
    migrations.RenameField,
    migrations.RenameModel,
    migrations.AlterModelTable,
)


def later_migrations():
    """Every migration of ours that meets a database somebody works on, and the state before it."""
    loader = MigrationLoader(None)
    for (app, name), migration in sorted(loader.disk_migrations.items(), key=lambda it: it[0]):
        if app in ROOMS and not name.startswith("0001_"):
            before = loader.project_state([(app, name)], at_end=False)
            yield app, name, migration.operations, before


def offences(app: str, operations, before: ProjectState) -> list[str]:
    """What a worker that does not know of these operations could trip over."""
    found = []
    for operation in operations:
        if isinstance(operation, migrations.SeparateDatabaseAndState):
            found += offences(app, operation.database_operations, before)
            continue
        what = f"{type(operation).__name__} {getattr(operation, 'model_name', '')}"
        if isinstance(operation, TAKING_AWAY):
            found.append(f"{what}: takes away what the version before still uses")
            continue
        if not isinstance(operation, (migrations.AddField, migrations.AlterField)):
            continue
        model = before.models.get((app, operation.model_name_lower))
        if model is None:
            continue  # of a table that this very migration creates
        old = model.fields.get(operation.name)
        if needs_a_value(operation.field) and (old is None or not needs_a_value(old)):
            found.append(f"{what}.{operation.name}: NOT NULL without db_default")
    return found


def needs_a_value(field: models.Field) -> bool:
    """Tell whether an INSERT that does not name the column fails."""
    return not (field.null or field.many_to_many or field.db_default is not NOT_PROVIDED)


def test_migrations__expand_only():
    seen = list(later_migrations())
    assert {(app, name) for app, name, _, _ in seen} >= {("engine", "0003_durability")}
    found = {
        (app, name): bad
        for app, name, operations, before in seen
        if (bad := offences(app, operations, before))
    }
    assert found.keys() <= CONTRACTIONS.keys(), found


@pytest.fixture
def before():
    state = ProjectState()
    fields = [
        ("id", models.BigAutoField(primary_key=True)),
        ("old", models.IntegerField()),
        ("soft", models.IntegerField(null=True)),
    ]
    state.add_model(ModelState("engine", "Thing", fields))
    return state


@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddField("thing", "new", models.IntegerField()),
        migrations.AddField("thing", "new", models.IntegerField(default=0)),
        migrations.AddField("Thing", "new", models.CharField(max_length=9, default="")),
        migrations.AlterField("thing", "soft", models.IntegerField()),
        migrations.RemoveField("thing", "old"),
        migrations.RenameField("thing", "old", "new"),
        migrations.DeleteModel("Thing"),
        migrations.SeparateDatabaseAndState([migrations.RemoveField("thing", "old")]),
    ],
    ids=repr,
)
def test_detector__sees_what_an_old_worker_trips_over(before, operation):
    assert offences("engine", [operation], before)


@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddField("thing", "new", models.IntegerField(null=True)),
        migrations.AddField("thing", "new", models.IntegerField(db_default=0)),
        migrations.AlterField("thing", "old", models.BigIntegerField()),
        migrations.AlterField("thing", "old", models.IntegerField(null=True)),
        migrations.AddField("other", "new", models.IntegerField()),
    ],
    ids=repr,
)
def test_detector__lets_expansions_pass(before, operation):
    assert offences("engine", [operation], before) == []
