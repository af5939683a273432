"""What PostgreSQL refuses to store of runs and steps, whoever writes it."""

from __future__ import annotations

import uuid

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from engine.models import Run, StepRun
from engine.states import RUN_TERMINAL, STEP_TERMINAL, RunState, StepState
from tests import seed

CLAIM = uuid.UUID(int=7)


@pytest.fixture
def run(db):
    seed.finish(runs=1)
    return Run.objects.get()


@pytest.fixture
def step_run(run):
    return run.step_runs.first()


def refused(row, name: str, **changes) -> bool:
    """Tell whether the row may not be like that."""
    rows = type(row).objects.filter(pk=row.pk)
    found = ""
    try:
        with transaction.atomic():
            rows.update(**changes)
            transaction.set_rollback(True)
    except IntegrityError as exc:
        found = str(exc)
    if found and f'"{name}"' not in found:
        pytest.fail(f"refused for another reason: {found}")
    return bool(found)


@pytest.mark.parametrize("state", [*RunState, "nonsense"])
def test_run__has_ended_if_and_only_if_its_state_says_so(run, state):
    ended = state in RUN_TERMINAL
    for finished_at in (None, timezone.now()):
        sound = state in set(RunState) and ended == (finished_at is not None)
        assert refused(run, "run_is_sound", state=state, finished_at=finished_at) is not sound


@pytest.mark.parametrize("state", [*StepState, "nonsense"])
def test_step__has_ended_if_and_only_if_its_state_says_so(step_run, state):
    ended = state in STEP_TERMINAL
    for finished_at in (None, timezone.now()):
        sound = state in set(StepState) and ended == (finished_at is not None)
        changes = {"state": state, "finished_at": finished_at, "claim": CLAIM}
        assert refused(step_run, "steprun_is_sound", **changes) is not sound


@pytest.mark.parametrize(
    ("changes", "sound"),
    [
        ({"state": "running", "claim": None}, False),
        ({"state": "running", "claim": CLAIM}, True),
        ({"state": "waiting", "pending": 1, "claim": None}, True),
        ({"state": "waiting", "pending": -1}, False),
        *(
            ({"state": state, "pending": 1, "claim": CLAIM}, False)
            for state in ("ready", "queued", "running", "retry_wait")
        ),
        ({"state": "ready", "attempt": 1, "failures": 2}, False),
        ({"state": "ready", "attempt": 2, "failures": 2}, True),
    ],
)
def test_step__keeps_the_rules_of_its_columns(step_run, changes, sound):
    changes = {"finished_at": None, **changes}
    assert refused(step_run, "steprun_is_sound", **changes) is not sound


def test_run__never_waits_for_less_than_nothing(run):
    assert refused(run, "run_is_sound", pending=-1)


def test_rows__were_all_looked_at(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND convalidated"
            " AND conrelid IN (%s::regclass, %s::regclass)",
            [Run._meta.db_table, StepRun._meta.db_table],
        )
        assert {name for (name,) in cursor.fetchall()} >= {"run_is_sound", "steprun_is_sound"}
