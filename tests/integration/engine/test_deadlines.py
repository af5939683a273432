"""A step that hangs beside a live heartbeat ends by the database's clock."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import timedelta
from math import inf

import pytest
import structlog
from django.db import connection, connections
from django.db.models import F

from engine import execution, heartbeat, leases, why
from engine.models import DeadLetter, Lease, RunEvent, StepRun
from tests.eventually import eventually
from tests.integration.engine.test_runs import executions, start, state

SECOND = timedelta(seconds=1)


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as found:
        yield found


@pytest.fixture(autouse=True)
def quiet_afterwards(line):
    """End the session of the heartbeat's thread, which lives as long as the process does."""
    yield
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def words(logged, event: str) -> int:
    return sum(entry["event"] == event for entry in logged)


@contextmanager
def worker(step_run_id: int):
    """Run a step in a thread, beside the process' heartbeat; joined when the block is left."""

    def body() -> None:
        try:
            execution.execute(step_run_ids=[step_run_id], worker="w/1")
        finally:
            connections.close_all()

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(30)
        assert not thread.is_alive()


def verdict_impossible(monkeypatch, **attributes) -> None:
    """Let the process itself never end a step, as after a clock that stopped, or by a bug."""
    original = heartbeat.Watch.__init__

    def init(self, **values):
        original(self, **values)
        for name, value in attributes.items():
            setattr(self, name, value)

    monkeypatch.setattr(heartbeat.Watch, "__init__", init)


def reaped(step_run_id: int, *wanted: str) -> StepRun:
    def found() -> StepRun | None:
        leases.reap(limit=10)
        return StepRun.objects.filter(pk=step_run_id, state__in=wanted).first()

    return eventually(found, within=20, what=f"{wanted}")


def again(line, step_run_id: int) -> None:
    """Bring a step that waits for its retry back to a worker's hands."""
    StepRun.objects.filter(pk=step_run_id).update(next_at="2000-01-01T00:00:00Z")
    line.manage()
    line.messages.clear()


def fail() -> None:
    raise RuntimeError("the verdict cannot be written")


def test_hung_step__with_a_live_heartbeat_ends_in_retry_then_dead_letter(
    line, tmp_path, monkeypatch, logged
):
    verdict_impossible(monkeypatch, deadline=inf)
    monkeypatch.setattr(leases, "GRACE_SECONDS", 0.2)
    run_id = start("lab.hung", folder=str(tmp_path))
    first = line.messages.pop().id
    with worker(first):
        row = reaped(first, "retry_wait")
        assert (row.error_code, row.failures, row.crashes) == ("timeout", 1, 0)
        assert row.error_message == "The step ran longer than 2 s."
        again(line, first)
        with worker(first):
            assert reaped(first, "dead").failures == 2
            # Both attempts are still in their bodies; now they come back, too late.
            (tmp_path / "freed").touch()
    assert (DeadLetter.objects.get().error_code, state(run_id)) == ("timeout", "blocked")
    assert words(logged, "late_write_refused") == 2
    assert words(logged, "worker_lost") == 0
    assert StepRun.objects.get(pk=first).state == "dead"
    assert executions(tmp_path, "hung") == 2
    assert not executions(tmp_path, "last")


def test_standstill__is_ended_by_the_database_when_the_verdict_fails(
    line, tmp_path, monkeypatch, logged
):
    verdict_impossible(monkeypatch, on_standstill=fail)
    start("lab.still", folder=str(tmp_path))
    first = line.messages.pop().id
    with worker(first):
        row = reaped(first, "retry_wait")
        (tmp_path / "freed").touch()
    assert (row.error_code, row.failures, row.crashes) == ("no_progress", 1, 0)
    assert words(logged, "late_write_refused") == 1


def test_standstill__is_ended_by_its_own_process_at_once(line, tmp_path, logged):
    start("lab.still", folder=str(tmp_path))
    first = line.messages.pop().id
    with worker(first):
        row = eventually(
            lambda: StepRun.objects.filter(pk=first, state="retry_wait").first(), within=10
        )
        (tmp_path / "freed").touch()
    assert row.error_code == "no_progress"
    # It had got on for a second, twice as long as it may be still: signs of progress count.
    event = RunEvent.objects.get(step_run=first, kind="step.retried")
    assert event.at - row.started_at > SECOND
    assert [(e["done"], e["total"]) for e in logged if e["event"] == "step_progress"][-1:] == [
        (9, 200)
    ]


def held(line) -> tuple:
    start("lab.squares", count=1)
    (step,) = leases.claim(step_run_ids=[line.messages.pop().id], worker="w/1")
    return step, StepRun.objects.get(pk=step.id).started_at


def test_renewal__never_reaches_beyond_the_end_of_the_attempt(line):
    step, began = held(line)
    assert Lease.objects.get().deadline_at is None
    for _ in range(3):
        leases.renew(step=step, attempt_seconds=1)
        lease = Lease.objects.get()
        assert lease.deadline_at == began + SECOND * (1 + leases.GRACE_SECONDS)
        assert lease.expires_at <= lease.deadline_at
    # The lease is renewed for as long as the attempt lasts, and then not any more.
    StepRun.objects.update(started_at=F("started_at") - SECOND * 60)
    assert leases.renew(step=step, attempt_seconds=1) is False
    assert leases.reap(limit=10) == 1
    assert leases.renew(step=step, attempt_seconds=1) is None


def test_renewal__moves_with_progress_but_not_beyond_the_attempt(line):
    step, began = held(line)
    leases.renew(step=step, attempt_seconds=600, patience_seconds=5)
    before = Lease.objects.get().deadline_at
    leases.renew(step=step, attempt_seconds=600, patience_seconds=50)
    assert Lease.objects.get().deadline_at > before + SECOND * 44
    leases.renew(step=step, attempt_seconds=600, patience_seconds=5000)
    assert Lease.objects.get().deadline_at == began + SECOND * (600 + leases.GRACE_SECONDS)


def test_silent_worker__is_a_crash_also_of_a_step_with_a_deadline(line):
    step, _began = held(line)
    leases.renew(step=step, attempt_seconds=600)
    Lease.objects.update(expires_at=F("expires_at") - SECOND * 60)
    assert leases.reap(limit=10) == 1
    row = StepRun.objects.get(pk=step.id)
    assert (row.error_code, row.failures, row.crashes) == ("worker_lost", 0, 1)


def test_silent_worker__is_a_crash_also_when_the_grace_of_an_outage_passed_its_deadline(line):
    step, _began = held(line)
    leases.renew(step=step, attempt_seconds=20)
    leases.grant_grace(seconds=60)
    lease = Lease.objects.get()
    assert lease.expires_at > lease.deadline_at
    two_minutes = SECOND * 120
    Lease.objects.update(
        expires_at=F("expires_at") - two_minutes, deadline_at=F("deadline_at") - two_minutes
    )
    (reason,) = [r for r in why.explain(run_id=step.run_id).steps if r.step_run_id == step.id]
    assert reason.reason_code == "worker_silent"
    assert leases.reap(limit=10) == 1
    row = StepRun.objects.get(pk=step.id)
    assert (row.error_code, row.failures, row.crashes) == ("worker_lost", 0, 1)


def test_overran__ends_as_cancelled_when_a_cancel_was_wanted(line):
    from engine import runs  # noqa: PLC0415 - next to its use

    step, _began = held(line)
    runs.cancel(run_id=step.run_id, actor="ann")
    StepRun.objects.update(started_at=F("started_at") - SECOND * 60)
    leases.renew(step=step, attempt_seconds=1)
    leases.reap(limit=10)
    assert StepRun.objects.get(pk=step.id).state == "cancelled"


def test_overran__of_code_that_is_gone_is_tried_with_patience(line, monkeypatch):
    from engine import registry  # noqa: PLC0415 - next to its use

    step, _began = held(line)
    monkeypatch.delitem(registry.steps, "lab.numbers")
    StepRun.objects.update(started_at=F("started_at") - SECOND * 60)
    leases.renew(step=step, attempt_seconds=1)
    leases.reap(limit=10)
    row = StepRun.objects.get(pk=step.id)
    assert (row.state, row.error_message) == ("retry_wait", "The step ran longer than 1 s.")


def test_queued_step__is_never_reaped_however_old(line):
    run_id = start("lab.squares", count=1)
    years = timedelta(days=3650)
    StepRun.objects.update(ready_at=F("ready_at") - years, dispatched_at=F("dispatched_at") - years)
    for _ in range(5):
        assert leases.reap(limit=100) == 0
        overdue = leases.queued_too_long(older_than_seconds=1)
        leases.hand_back(step_run_ids=overdue["lab"], reason="message_lost")
        assert StepRun.objects.get(run_id=run_id, key="numbers").state == "ready"
        line.manage()
        StepRun.objects.update(dispatched_at=F("dispatched_at") - years)
    row = StepRun.objects.get(run_id=run_id, key="numbers")
    assert (row.state, row.failures, row.crashes) == ("queued", 0, 0)
    line.deliver()
    assert state(run_id) == "succeeded"
