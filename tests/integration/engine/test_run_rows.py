"""Runs read by prepared statements are the runs Django would have read."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from engine import run_rows, runs
from engine.models import AutomationVersion, Run


@pytest.fixture
def submitted(line):
    """Ids of three runs, oldest first, each with all that a caller can say."""
    return [
        runs.submit(
            automation="lab.squares",
            input={"count": number},
            trigger="api",
            created_by="someone",
            dedupe_key=f"key {number}",
            correlation_id="together",
            priority=3,
            tags=["a", "ü"],
            deadline_at=datetime(2037, 1, 1, tzinfo=UTC),
        ).run_id
        for number in (1, 2, 3)
    ]


def values(row) -> dict:
    return {name: value for name, value in vars(row).items() if name != "_state"}


def test_one__is_what_django_reads(submitted):
    found = run_rows.one(run_id=submitted[1])
    expected = Run.objects.get(pk=submitted[1])
    assert values(found) == values(expected)
    assert found.input["count"] == 2
    assert found.deadline_at == datetime(2037, 1, 1, tzinfo=UTC)


def test_one__has_its_version_whose_graph_is_loaded_when_asked_for(
    submitted, django_assert_num_queries
):
    run = run_rows.one(run_id=submitted[0])
    expected = AutomationVersion.objects.get(pk=run.version_id)
    with django_assert_num_queries(0):
        assert run.version.version == expected.version
    assert run.version.graph == expected.graph


def test_one__can_be_saved(submitted):
    run = run_rows.one(run_id=submitted[0])
    run.priority = 5
    run.save(update_fields=["priority"])
    assert Run.objects.get(pk=submitted[0]).priority == 5


def test_one__there_is_not(db):
    assert run_rows.one(run_id=uuid.uuid4()) is None


def test_many__newest_first_without_inputs(submitted):
    found = run_rows.many(ids=[*submitted[:2], uuid.uuid4(), submitted[2]])
    assert [run.pk for run in found] == submitted[::-1]
    assert "input" in found[0].get_deferred_fields()
    assert found[0].input["count"] == 3


def test_many__of_none(db):
    assert run_rows.many(ids=[]) == []
