"""What a step may do beside computing, and what becomes of it when the step fails."""

from __future__ import annotations

from django.db import connection

from engine import execution, leases, runs, selectors
from engine.contracts import ArtifactRef
from engine.models import Artifact, DeadLetter, Lease, Run, StepRun
from tests.integration.engine.test_runs import settle, start, state


def test_transaction__rolls_back_with_the_step_that_fails_after_its_writes(line, ledger):
    run_id = start("lab.writer", mode="fail_after")
    settle(line, run_id, "blocked")
    assert DeadLetter.objects.get().error_code == "after"
    assert ledger() == []


def test_transaction__commits_rows_result_and_artifacts_together(line, ledger):
    run_id = start("lab.writer", mode="good")
    line.deliver()
    assert state(run_id) == "succeeded"
    assert ledger() == [("writer", -1)]
    (artifact,) = selectors.artifacts(run_id=run_id)
    assert (artifact.name, artifact.size) == ("note.txt", 5)
    ref = ArtifactRef.model_validate(selectors.output(run_id=run_id))
    assert ref.sha256 == artifact.sha256


def test_transaction__may_be_opened_once(line, ledger):
    run_id = start("lab.writer", mode="twice")
    settle(line, run_id, "blocked")
    assert DeadLetter.objects.get().error_code == "second_transaction"
    assert ledger() == []


def test_transaction__of_a_step_that_lost_its_claim_writes_nothing(line, ledger):
    """The body itself takes the claim away, as a reaper would while it sleeps."""
    run_id = start("lab.writer", mode="lose_claim")
    line.deliver()
    row = StepRun.objects.get(run_id=run_id)
    assert (row.state, row.error_code) == ("retry_wait", "worker_lost")
    assert ledger() == []
    assert not Artifact.objects.exists()


def test_query_that_fails__is_the_steps_failure_and_not_a_lost_database(line, ledger):
    run_id = start("lab.writer", mode="bad_sql")
    settle(line, run_id, "blocked")
    row = StepRun.objects.get(run_id=run_id)
    assert (row.error_code, row.failures, row.crashes) == ("unexpected_error", 3, 0)


def test_connection_lost_in_a_transaction__gives_the_step_back(line, ledger):
    run_id = start("lab.writer", mode="lose_connection")
    settle(line, run_id, "succeeded")
    row = StepRun.objects.get(run_id=run_id)
    assert (row.failures, row.crashes, row.attempt) == (0, 1, 2)
    assert ledger() == [("writer", -1)]


def test_writing_step__whose_commit_meets_a_lost_connection_has_not_failed(line, ledger):
    run_id = start("lab.writer")
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION lab_lose() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
            CREATE CONSTRAINT TRIGGER lab_lose AFTER INSERT ON lab_ledger
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lab_lose();
            """
        )
    try:
        line.deliver()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION lab_lose CASCADE")
    row = StepRun.objects.get(run_id=run_id)
    assert (row.state, row.failures, row.crashes) == ("retry_wait", 0, 1), row.error_code
    settle(line, run_id, "succeeded")
    assert ledger() == [("writer", -1)]


def test_unknown_step__waits_for_a_worker_that_has_it(line, monkeypatch):
    from engine import registry  # noqa: PLC0415 - next to its use

    run_id = start("lab.squares", count=1)
    known = registry.steps.pop("lab.numbers")
    try:
        line.deliver()
        row = StepRun.objects.get(run_id=run_id, key="numbers")
        assert (row.state, row.error_code) == ("retry_wait", "step_unknown")
    finally:
        registry.steps["lab.numbers"] = known
    StepRun.objects.filter(pk=row.pk).update(next_at="2000-01-01T00:00:00Z")
    settle(line, run_id, "succeeded")


def test_deadline__ends_a_run_as_timed_out(line):
    run_id = start("lab.squares", count=2)
    Run.objects.filter(pk=run_id).update(deadline_at="2000-01-01T00:00:00Z")
    assert runs.expire_deadlines(limit=10) == 1
    assert state(run_id) == "timed_out"


def test_connection__stays_usable_after_every_kind_of_end(line, ledger):
    for mode in ("good", "fail_after", "twice", "lose_claim", "bad_sql"):
        start("lab.writer", mode=mode)
        line.deliver()
        assert connection.in_atomic_block is False
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert not leases.reap(limit=10)
    assert not Lease.objects.exists()
    assert execution.execute(step_run_ids=[999_999_999], worker="w/1") == 0
