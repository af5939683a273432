"""A run's way through the engine, with real PostgreSQL and the broker as a list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from engine import artifacts, dead_letters, lanes, leases, runs, selectors, why
from engine.errors import InputInvalidError, StateConflictError, UnknownAutomationError
from engine.models import DeadLetter, Lease, OutboxEvent, Run, RunEvent, StepRun
from tests.eventually import eventually

if TYPE_CHECKING:
    import uuid


def start(automation: str, **values) -> uuid.UUID:
    return runs.submit(automation=automation, input=values, trigger="api").run_id


def state(run_id) -> str:
    return Run.objects.get(pk=run_id).state


def states(run_id) -> dict[str, str]:
    return {str(row): row.state for row in StepRun.objects.filter(run_id=run_id)}


def settle(line, run_id, *wanted: str) -> None:
    def settled() -> bool:
        line.deliver()
        line.manage()
        line.deliver()
        runs.finish_cancelling(limit=10)
        return state(run_id) in wanted

    eventually(settled, within=10, what=f"{wanted}")


def executions(folder, word: str) -> int:
    path = folder / f"{word}.log"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_submit__plans_the_whole_static_graph_before_it_answers(line):
    run_id = start("lab.squares", count=3)
    assert states(run_id) == {"numbers": "queued", "square": "waiting", "total": "waiting"}
    assert [step.id for step in line.messages] == [StepRun.objects.get(key="numbers").id]
    assert state(run_id) == "pending"


def test_run__fans_out_joins_and_succeeds(line):
    run_id = start("lab.squares", count=4)
    line.deliver()
    assert state(run_id) == "succeeded"
    assert selectors.output(run_id=run_id) == 0 + 1 + 4 + 9
    assert states(run_id) == {
        "numbers": "succeeded",
        "square": "succeeded",
        "total": "succeeded",
        **{f"square[{n}]": "succeeded" for n in range(4)},
    }
    kinds = list(OutboxEvent.objects.order_by("id").values_list("event_type", flat=True))
    assert kinds == ["run.started", "run.completed"]
    assert not Lease.objects.exists()


def test_run__an_empty_map_joins_at_once(line):
    run_id = start("lab.squares", count=0)
    line.deliver()
    assert (state(run_id), selectors.output(run_id=run_id)) == ("succeeded", 0)


def test_submit__the_same_business_key_gives_the_same_run(line):
    def submit():
        return runs.submit(automation="lab.squares", input={}, trigger="api", dedupe_key="2026-11")

    one, two = submit(), submit()
    assert (one.created, two.created) == (True, False)
    assert one.run_id == two.run_id
    assert Run.objects.count() == 1
    assert len(line.messages) == 1


def test_submit__names_every_field_at_fault_and_stores_nothing(line):
    with pytest.raises(InputInvalidError) as caught:
        start("lab.squares", count="many", colour="red")
    assert {p["field"] for p in caught.value.problems} == {"count", "colour"}
    with pytest.raises(UnknownAutomationError, match=r"lab\.squares"):
        start("lab.nothing")
    assert not Run.objects.exists()


def test_messages__doubled_and_reordered_change_nothing(line, ledger):
    run_id = start("lab.booking", count=5)
    line.messages = line.messages * 3
    while line.messages:
        line.messages = list(reversed(line.messages * 2))[:50]
        before = set(StepRun.objects.filter(state="succeeded").values_list("id", flat=True))
        line.deliver()
        assert before <= set(StepRun.objects.filter(state="succeeded").values_list("id", flat=True))
    assert state(run_id) == "succeeded"
    assert ledger() == [("book", n) for n in range(5)]


def test_messages__all_lost_are_sent_again(line):
    run_id = start("lab.squares", count=3)
    line.messages.clear()
    found = leases.queued_too_long(older_than_seconds=0.001)
    assert {queue: len(ids) for queue, ids in found.items()} == {"lab": 1}
    assert leases.hand_back(step_run_ids=found["lab"], reason="message_lost") == 1
    settle(line, run_id, "succeeded")


def test_failure__backs_off_dead_letters_blocks_and_is_requeued(line, tmp_path):
    run_id = start("lab.fragile", folder=str(tmp_path))
    settle(line, run_id, "blocked")
    assert states(run_id) == {"first": "succeeded", "fragile": "dead", "last": "waiting"}
    letter = DeadLetter.objects.get(run_id=run_id)
    assert (letter.error_code, letter.attempts, letter.state) == ("broken", 3, "open")
    assert executions(tmp_path, "fragile") == 3
    retried = RunEvent.objects.filter(run_id=run_id, kind="step.retried")
    assert retried.count() == 2

    (tmp_path / "mended").touch()
    assert dead_letters.requeue(dead_letter_id=letter.pk, actor="ann") == run_id
    settle(line, run_id, "succeeded")
    assert executions(tmp_path, "first") == 1
    assert executions(tmp_path, "fragile") == 4
    assert Run.objects.get(pk=run_id).generation == 2
    letter.refresh_from_db()
    assert (letter.state, letter.resolved_by) == ("requeued", "ann")
    with pytest.raises(StateConflictError, match="requeued"):
        dead_letters.requeue(dead_letter_id=letter.pk, actor="ann")


def test_failure__a_failed_run_cancels_what_it_cannot_reach_and_requeue_restores_it(line, tmp_path):
    run_id = start("lab.fragile_fail", folder=str(tmp_path))
    settle(line, run_id, "failed")
    assert states(run_id) == {"first": "succeeded", "fragile": "dead", "last": "cancelled"}
    assert StepRun.objects.get(run_id=run_id, key="last").error_code == "upstream_dead"
    (tmp_path / "mended").touch()
    dead_letters.requeue(dead_letter_id=DeadLetter.objects.get().pk, actor="ann")
    assert states(run_id)["last"] == "waiting"
    settle(line, run_id, "succeeded")
    assert executions(tmp_path, "first") == 1


def test_discard__ends_a_blocked_run_as_failed(line, tmp_path):
    run_id = start("lab.fragile", folder=str(tmp_path))
    settle(line, run_id, "blocked")
    dead_letters.discard(dead_letter_id=DeadLetter.objects.get().pk, actor="ann")
    assert state(run_id) == "failed"
    assert "ann" in Run.objects.get(pk=run_id).error_message


def test_failure__stores_the_class_of_an_exception_never_its_text(line):
    run_id = start("lab.secret")
    settle(line, run_id, "blocked")
    row = StepRun.objects.get(run_id=run_id)
    assert row.error_message == "The step raised ValueError."
    for event in RunEvent.objects.all():
        assert "hunter2" not in str(event.data)


def test_pure_step__may_not_query_outside_its_transaction(line):
    run_id = start("lab.rude")
    settle(line, run_id, "blocked")
    assert StepRun.objects.get(run_id=run_id).error_code == "query_outside_transaction"
    assert DeadLetter.objects.get().attempts == 1


def test_cancel__ends_waiting_steps_and_refuses_claims(line):
    run_id = start("lab.squares", count=3)
    runs.cancel(run_id=run_id, actor="ann")
    assert state(run_id) == "cancelled"
    assert set(states(run_id).values()) == {"cancelled"}
    assert line.deliver() == 0
    with pytest.raises(StateConflictError, match="cancelled"):
        runs.cancel(run_id=run_id, actor="ann")


def test_pause__recalls_what_was_sent_and_resume_goes_on(line):
    run_id = start("lab.squares", count=3)
    runs.pause(run_id=run_id, actor="ann")
    assert (state(run_id), states(run_id)["numbers"]) == ("paused", "ready")
    assert line.deliver() == 0
    assert line.manage() == 0
    runs.resume(run_id=run_id, actor="ann")
    assert state(run_id) == "pending"
    settle(line, run_id, "succeeded")


def test_department_pause__holds_its_runs(line):
    run_id = start("lab.squares", count=3)
    lanes.pause(slug="lab", actor="ann")
    assert line.deliver() == 0
    assert line.manage() == 0
    held = start("lab.squares", count=1)
    assert states(held)["numbers"] == "ready"
    assert {w.reason_code for w in why.explain(run_id=held).steps} >= {"department_paused"}
    lanes.resume(slug="lab")
    settle(line, run_id, "succeeded")
    settle(line, held, "succeeded")


def test_limit__never_more_in_flight_than_allowed(line):
    lanes.limit(slug="lab", max_concurrency=2)
    run_id = start("lab.squares", count=9)
    most = 0
    while state(run_id) != "succeeded":
        line.manage()
        most = max(most, StepRun.objects.filter(state__in=["queued", "running"]).count())
        if line.messages:
            message = line.messages.pop(0)
            line.messages, rest = [], line.messages
            line.messages = [message]
            line.deliver()
            line.messages += rest
    assert most == 2


def test_large_value__travels_as_an_artifact(line):
    run_id = start("lab.large", count=2000)
    line.deliver()
    assert (state(run_id), selectors.output(run_id=run_id)) == ("succeeded", 200_000)
    warning = RunEvent.objects.get(run_id=run_id, kind="step.warning")
    assert warning.data == {"code": "large", "message": "This result is large.", "count": 2000}


def test_artifacts__are_stored_once_by_content():
    one = artifacts.put(name="../../a.txt", content=b"same", media_type="text/plain")
    two = artifacts.put(name="b.txt", content=b"same", media_type="text/plain")
    assert one.sha256 == two.sha256
    assert one.name == "a.txt"
    with artifacts.open_content(sha256=one.sha256) as file:
        assert file.read() == b"same"


@pytest.mark.parametrize(
    "note", ["nul\x00", "half \ud800", float("nan"), float("inf"), "x" * 70_000, {"a": "\x00"}]
)
def test_submit__refuses_what_cannot_be_stored(line, note):
    with pytest.raises(InputInvalidError, match=r"stored|finite|larger|valid string"):
        start("lab.odd", anything=note)
    assert not Run.objects.exists()


def test_failure__a_message_that_cannot_be_stored_is_stored_without_it(line):
    run_id = start("lab.odd", anything="speak")
    settle(line, run_id, "blocked")
    letter = DeadLetter.objects.get()
    assert letter.error_code == "odd"
    assert letter.error_message.startswith("nul, half ?")
    assert len(letter.error_message) == 2000


def test_warning__that_cannot_be_stored_does_not_fail_the_step(line):
    run_id = start("lab.odd", anything="warn")
    line.deliver()
    assert state(run_id) == "succeeded"
    data = RunEvent.objects.get(run_id=run_id, kind="step.warning").data
    assert data["message"] == "nul "
    assert data["number"] is None


def test_submit__works_before_the_catalog_was_ever_synced(line):
    from departments.models import Automation  # noqa: PLC0415 - next to their use
    from engine.models import AutomationVersion, Lane  # noqa: PLC0415 - same

    Automation.objects.all().delete()

    Lane.objects.all().delete()
    AutomationVersion.objects.all().delete()
    run_id = start("lab.squares", count=1)
    line.deliver()
    assert state(run_id) == "succeeded"


@pytest.mark.parametrize("year", [1, 9999])
def test_submit__refuses_a_deadline_that_no_calendar_can_show(line, year):
    deadline = datetime(year, 1, 1, tzinfo=UTC)
    with pytest.raises(InputInvalidError, match="deadline_at"):
        runs.submit(automation="lab.squares", input={}, trigger="api", deadline_at=deadline)


def test_requeue__of_a_run_whose_deadline_has_passed_lets_it_go_on(line, tmp_path):
    run_id = start("lab.fragile", folder=str(tmp_path))
    settle(line, run_id, "blocked")
    Run.objects.filter(pk=run_id).update(deadline_at="2000-01-01T00:00:00Z")
    (tmp_path / "mended").touch()
    dead_letters.requeue(dead_letter_id=DeadLetter.objects.get().pk, actor="ann")
    assert runs.expire_deadlines(limit=10) == 0
    settle(line, run_id, "succeeded")
