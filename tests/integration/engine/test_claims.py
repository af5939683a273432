"""Claims, leases and fences, with real concurrency."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from django.db import connection, connections
from django.utils import timezone

from engine import execution, leases, runs, why
from engine.models import DeadLetter, Lease, Run, StepRun
from engine.transitions import claims, dispatch, failures
from tests.held import complete
from tests.integration.engine.test_runs import settle, start, state, states


def concurrently(actions):
    """Run each action in its own thread with its own connection, all at the same moment."""
    gate = threading.Barrier(len(actions))

    def one(action):
        try:
            gate.wait()
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [f.result() for f in [pool.submit(one, action) for action in actions]]


def test_claim__one_of_twelve_wins(line):
    start("lab.squares", count=1)
    (message,) = line.messages
    won = concurrently(
        [lambda: leases.claim(step_run_ids=[message.id], worker="w/1") for _ in range(12)]
    )
    assert sorted(map(len, won)) == [0] * 11 + [1]


def test_zombie__its_late_result_is_refused(line, ledger):
    run_id = start("lab.booking", count=1)
    execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    planner = line.messages.pop(0)
    execution.execute(step_run_ids=[planner.id], worker="w/1")
    item = line.messages.pop(0)
    (zombie,) = leases.claim(step_run_ids=[item.id], worker="zombie/1")
    Lease.objects.update(expires_at="2000-01-01T00:00:00Z")
    assert leases.reap(limit=10) == 1
    assert leases.renew(step=zombie) is None
    assert not complete(zombie, successors=["total"]).done
    assert StepRun.objects.get(pk=item.id).state == "retry_wait"
    assert StepRun.objects.get(run_id=run_id, key="total").pending == 1
    settle(line, run_id, "succeeded")
    assert ledger() == [("book", 0)]


def test_zombie__does_not_end_the_run_of_the_map_it_comes_back_with(line):
    run_id = start("lab.squares", count=1)
    execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    (zombie,) = leases.claim(step_run_ids=[line.messages.pop(0).id], worker="zombie/1")
    runs.cancel(run_id=run_id, actor="ann")
    Lease.objects.update(expires_at="2000-01-01T00:00:00Z")
    assert leases.reap(limit=10) == 1
    execution.run([zombie])
    assert state(run_id) == "cancelling", "the manager ends it, in its own time"
    runs.finish_cancelling(limit=10)
    assert state(run_id) == "cancelled"


def test_failure__that_a_cancel_overtook_leaves_the_step_its_lease(line):
    """Between the refused failure and the cancel the step is held: nobody may call it lost."""
    run_id = start("lab.squares", count=1)
    (step,) = leases.claim(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    runs.cancel(run_id=run_id, actor="ann")
    words = {"step_run_id": step.id, "claim": step.claim, "code": "broken", "message": "Broken."}
    assert not failures.retry(**words, delay_seconds=1.0)
    assert not failures.bury(**words, fail_run=False)
    assert Lease.objects.filter(claim=step.claim).exists()
    assert failures.cancel(step_run_id=step.id, claim=step.claim, reason="cancelled")
    assert not Lease.objects.exists()


def test_reap__three_crashes_make_a_dead_letter(line):
    run_id = start("lab.squares", count=1)
    for crash in range(3):
        row = StepRun.objects.get(run_id=run_id, key="numbers")
        StepRun.objects.filter(state="retry_wait").update(next_at="2000-01-01T00:00:00Z")
        line.manage()
        line.messages.clear()
        assert len(leases.claim(step_run_ids=[row.pk], worker="w/1")) == 1
        assert leases.worker_lost(step_run_ids=[row.pk], worker="w/other") == 0
        assert leases.worker_lost(step_run_ids=[row.pk], worker="w/1") == 1, crash
    letter = DeadLetter.objects.get()
    assert (letter.error_code, letter.crashes, letter.attempts) == ("worker_lost", 3, 3)
    assert state(run_id) == "blocked"


def test_reap__a_renewed_lease_is_left_alone(line):
    start("lab.squares", count=1)
    (held,) = leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    Lease.objects.update(expires_at="2000-01-01T00:00:00Z")
    assert leases.renew(step=held) is False
    assert leases.reap(limit=10) == 0
    assert StepRun.objects.get(pk=held.id).state == "running"


def test_grace__keeps_holders_after_an_outage(line):
    start("lab.squares", count=1)
    leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    Lease.objects.update(expires_at="2000-01-01T00:00:00Z")
    assert leases.grant_grace(seconds=30) == 1
    assert leases.reap(limit=10) == 0


def test_join__forty_parents_at_once_ready_it_exactly_once(line):
    run_id = start("lab.squares", count=40)
    while line.messages and StepRun.objects.filter(key="square", map_index__gte=0).count() == 0:
        execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    items, line.messages = line.messages, []
    assert len(items) == 40
    halves = [items[:20], list(reversed(items[20:]))]
    concurrently(
        [
            lambda part=part: [execution.execute(step_run_ids=[m.id], worker="w/1") for m in part]
            for part in halves
        ]
    )
    assert [m.id for m in line.messages] == [StepRun.objects.get(run_id=run_id, key="total").pk]
    line.deliver()
    assert state(run_id) == "succeeded"


def test_cancel__races_claims_and_completions_without_a_deadlock(line, ledger):
    found = [start("lab.booking", count=12) for _ in range(4)]
    for _ in range(8):
        execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    items, line.messages = line.messages, []
    work = [
        lambda part=items[n::3]: [
            execution.execute(step_run_ids=[m.id], worker="w/1") for m in part
        ]
        for n in range(3)
    ]
    cancels = [
        lambda run_id=run_id: runs.cancel(run_id=run_id, actor="ann") for run_id in found[:2]
    ]
    concurrently(work + cancels)
    for run_id in found:
        settle(line, run_id, "cancelled", "succeeded")
    for run_id in found[:2]:
        committed = StepRun.objects.filter(run_id=run_id, key="book", state="succeeded").exclude(
            map_index=-1
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM lab_ledger WHERE run_id = %s", [run_id])
            assert cursor.fetchone()[0] == committed.count()
    assert not StepRun.objects.filter(state="running").exists()


def test_cancel__a_claim_that_raced_it_is_refused_afterwards(line):
    run_id = start("lab.squares", count=2)
    runs.cancel(run_id=run_id, actor="ann")
    assert leases.claim(step_run_ids=[m.id for m in line.messages], worker="w/1") == []


def test_map__refuses_to_add_items_to_an_ending_run(line):
    run_id = start("lab.squares", count=2)
    execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    (planner,) = leases.claim(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    runs.cancel(run_id=run_id, actor="ann")
    execution.run([planner])
    assert states(run_id) == {"numbers": "succeeded", "square": "cancelled", "total": "cancelled"}
    assert Run.objects.get(pk=run_id).state == "cancelled"


def test_complete__an_answer_lost_on_the_way_is_found_again(line):
    start("lab.squares", count=1)
    (held,) = leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    assert complete(held, value=[1], successors=["square"]).done == {held.id}
    assert claims.succeeded_before(step_run_ids=[held.id], claim=held.claim) == {held.id}


def test_broker_lost__a_backlog_is_handed_back_in_statements_of_bounded_size(line, monkeypatch):
    run_id = start("lab.squares", count=7)
    execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    monkeypatch.setattr(dispatch, "HAND_BACK_ROWS", 3)
    moved = []
    count = dispatch.sql.count

    def counted(statement, values):
        moved.append(count(statement, values))
        return moved[-1]

    monkeypatch.setattr(dispatch.sql, "count", counted)
    assert leases.broker_lost(sent_before=timezone.now()) == 7
    assert moved == [3, 3, 1]
    monkeypatch.undo()
    line.messages.clear()
    settle(line, run_id, "succeeded")


def test_hot_statements__are_prepared(line):
    for _ in range(3):
        start("lab.squares", count=1)
    line.deliver()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%claimed AS%'"
        )
        assert cursor.fetchone()[0] == 1


def test_limit_of_worker__claims_name_their_holder(line):
    start("lab.squares", count=1)
    leases.claim(step_run_ids=[line.messages[0].id], worker="celery@host/42")
    assert Lease.objects.get().worker == "celery@host/42"
    assert uuid.UUID(str(Lease.objects.get().claim)).version == 4
    assert why.explain(run_id=Run.objects.get().pk).steps
