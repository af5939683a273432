"""`manage.py effects`: what an operator reads and answers."""

from __future__ import annotations

import pytest

from engine import effect_selectors, runs
from engine.models import Effect, RunEvent, StepRun
from tests.integration.commands.test_commands import command, document, refused
from tests.integration.faces import work


@pytest.fixture
def asking(line, outside, tmp_path):
    """An effect that was made, without anybody here knowing it."""
    (tmp_path / "break_after_call").touch()
    values = {"url": outside.url, "folder": str(tmp_path)}
    runs.submit(automation="lab.outside", input=values, trigger="api")
    line.deliver()
    return Effect.objects.get()


def test_list__shows_what_waits_for_an_answer(line, asking):
    (row,) = document("effects", "list")
    assert (row["id"], row["state"], row["error_code"]) == (asking.pk, "unknown", "TimeoutError")
    assert (row["step"], row["map_index"], row["step_state"]) == ("call_outside", None, "awaiting")
    assert str(asking.run_id) in command("effects", "list")


def test_list__filters_by_state_run_and_department(line, asking):
    others = ["--state", "confirmed"], ["--department", "finance"], ["--run", str(runs_id())]
    assert [document("effects", "list", *words) for words in others] == [[], [], []]
    for words in (["--state", "all"], ["--department", "lab"], ["--run", str(asking.run_id)]):
        assert [row["id"] for row in document("effects", "list", *words)] == [asking.pk]
    assert effect_selectors.effects(limit=5, before=asking.pk) == []


def runs_id():
    return runs.submit(automation="lab.squares", input={}, trigger="api").run_id


def test_show__asks_the_question_with_both_commands(line, asking):
    shown = command("effects", "show", str(asking.pk))
    assert asking.key in shown
    assert f"manage.py effects confirm {asking.pk}" in shown
    assert f"manage.py effects retry {asking.pk} --apply" in shown
    assert document("effects", "show", str(asking.pk))["key"] == asking.key


def test_confirm__goes_on_with_the_receipt_that_is_given(line, asking, outside):
    (row,) = document("effects", "confirm", str(asking.pk), "--receipt", '{"id": 7}')
    assert (row["state"], row["receipt"], row["step_state"]) == ("confirmed", {"id": 7}, "ready")
    assert row["resolved_by"].startswith("command:")
    work(line)
    assert StepRun.objects.get().state == "succeeded"
    assert list(outside.calls.values()) == [1]
    assert "by command:" in command("effects", "show", str(asking.pk))


def test_retry__is_a_dry_run_unless_applied(line, asking, outside):
    assert "Would call 1 again" in command("effects", "retry", str(asking.pk))
    asking.refresh_from_db()
    assert asking.state == "unknown"
    (row,) = document("effects", "retry", str(asking.pk), "--apply")
    assert (row["state"], row["step_state"]) == ("planned", "ready")
    work(line)
    assert list(outside.calls.items()) == [(asking.key, 2)]


def test_answers__that_are_not_legal_are_refused_in_one_line(line, asking):
    number = str(asking.pk)
    assert "no effect 999" in refused("effects", "confirm", "999")
    assert "must be JSON" in refused("effects", "confirm", number, "--receipt", "{")
    assert "plain JSON" in refused("effects", "confirm", number, "--receipt", "NaN")
    assert "cannot be stored" in refused("effects", "confirm", number, "--receipt", '"\\u0000"')
    assert "16384 bytes" in refused("effects", "confirm", number, "--receipt", f'"{"x" * 17000}"')
    asking.refresh_from_db()
    assert (asking.state, RunEvent.objects.filter(kind__startswith="effect").count()) == (
        "unknown",
        0,
    )
    runs.cancel(run_id=asking.run_id, actor="ann")
    assert "The run is cancelled" in refused("effects", "retry", number, "--apply")
    assert "is cancelled" in command("effects", "confirm", number)
    assert "is confirmed" in refused("effects", "confirm", number)
