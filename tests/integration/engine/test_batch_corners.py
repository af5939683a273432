"""Corners of batches a review found: what members of one claim must not do to each other."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, transaction

from engine import batches, durations, execution, leases, selectors
from engine.models import DeadLetter, Lease, StepRun
from engine.transitions import claims, completions
from tests.catalog.lab import _dsn
from tests.declared import declared
from tests.eventually import eventually
from tests.integration.engine.test_review import LOCK_STEP, beside, somebody_waits
from tests.integration.engine.test_runs import start, state, states

LAB = {"worker": "w@h/1", "queue": "lab"}


@pytest.fixture(autouse=True)
def forgotten():
    """No test knows how long steps took in another."""
    durations._seconds.clear()


@pytest.fixture
def unhurried(monkeypatch):
    monkeypatch.setattr(batches, "SLICE_SECONDS", 10.0)


def items_of(line, shop, function, count: int, name: str = "wide", **how):
    """Start a run of short items that are all sent; return it and their ids."""

    def numbers(ctx) -> list[int]:
        return list(range(count))

    def after(ctx, found: list[Any]) -> int:
        return len(found)

    first = shop(f"{name}_numbers", numbers)
    item = shop(f"{name}_item", function, **how)
    last = shop(f"{name}_after", after)
    declared(name, lambda inp: last(found=item.map(number=first())))
    run_id = start(f"lab.{name}")
    for _ in range(2):
        execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w@h/0")
    line.messages.clear()
    for step in ("item", "after"):
        durations.note(step=f"lab.{name}_{step}", seconds=0.001)
    found = StepRun.objects.filter(run_id=run_id, map_index__gte=0).order_by("map_index")
    return run_id, [row.pk for row in found]


@pytest.mark.parametrize("count", [1, 4])
def test_memory__a_join_gets_all_items_and_not_the_last_one(line, shop, count):
    run_id, ids = items_of(line, shop, lambda ctx, number: number, count)
    execution.execute(step_run_ids=ids, **LAB)
    assert states(run_id)["wide_after"] == "succeeded"
    assert selectors.output(run_id=run_id) == count


def test_claim__made_again_takes_what_has_become_claimable_since(line, shop, unhurried):
    _, ids = items_of(line, shop, lambda ctx, number: number, 3)
    last = StepRun.objects.filter(pk=ids[2])
    last.update(alone=True)
    first, _ = leases.claim(step_run_ids=ids, worker="w@h/1")
    last.update(alone=False)
    held = execution.take(step_run_ids=ids, worker="w@h/1", claim=first.claim, again=True)
    assert len(held) == 3
    execution.run(held)
    assert {row.state for row in StepRun.objects.filter(pk__in=ids)} == {"succeeded"}
    assert not Lease.objects.exists()


@pytest.mark.parametrize("source", ["input", "const"])
def test_argument__that_a_step_changes_is_not_changed_for_the_next_one(line, shop, source):
    def first(ctx, words: Any) -> int:
        words.append("mine")
        return 1

    def second(ctx, words: Any, before: int) -> list[str]:
        return words

    a, b = shop("changer", first), shop("reader", second)

    def graph(inp):
        words = inp.words if source == "input" else ["w"]
        return b(words=words, before=a(words=words))

    declared("changes", graph)
    for _ in range(2):
        run_id = start("lab.changes", words=["w"])
        execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB)
        line.deliver()
        assert selectors.output(run_id=run_id) == ["w"]


def test_result__a_number_that_no_step_could_read_is_refused(line, shop):
    def big(ctx) -> int:
        return 10**5000

    one = shop("one", big)
    declared("single", lambda inp: one())
    run_id = start("lab.single")
    line.deliver()
    assert DeadLetter.objects.get(run_id=run_id).error_code == "result_invalid"


def test_group__a_result_that_cannot_be_written_is_its_own_failure(line, shop, unhurried):
    def odd(ctx, number: int) -> int:
        if number == 1:
            ctx.artifacts.save("x", b"x", "a\x00b")
        return number

    _, ids = items_of(line, shop, odd, 4)
    execution.execute(step_run_ids=ids, **LAB)
    rows = StepRun.objects.filter(pk__in=ids).order_by("map_index")
    assert [row.state for row in rows] == ["succeeded", "dead", "succeeded", "succeeded"]
    assert (rows[1].error_code, rows[1].attempt) == ("unexpected_error", 1)
    assert not Lease.objects.exists()


def test_group__a_try_that_was_written_after_its_answer_was_given_up_goes_on(
    line, shop, monkeypatch, unhurried
):
    """The server may still be at the first try, waiting for a lock, when the second one comes."""
    first, second = shop("start", lambda ctx: 1), shop("going", lambda ctx, number: number)
    declared("pair", lambda inp: second(number=first()))
    run_id = start("lab.pair")
    original = completions.complete
    going = StepRun.objects.get(run_id=run_id, key="going").pk
    given_up = []
    with psycopg.connect(_dsn()) as other, beside() as run:
        other.execute(LOCK_STEP, [going])

        def stuck(**values):
            if given_up:
                return original(**values)
            given_up.append(run(lambda: original(**values)))
            eventually(somebody_waits, within=5)
            threading.Timer(0.5, other.rollback).start()
            raise OperationalError

        monkeypatch.setattr(completions, "complete", stuck)
        execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB)
    assert given_up[0].result().held
    assert state(run_id) == "succeeded"
    assert not Lease.objects.exists()


def test_long__that_is_shown_by_a_try_without_an_answer_is_known_to_be(line, shop, monkeypatch):
    def asks(ctx, number: int) -> int:
        if number == 1:
            monkeypatch.setattr(claims, "show", lost)
            assert ctx._batch.come_forward(ran_seconds=0.3)
        return number

    original = claims.show

    def lost(**values):
        monkeypatch.setattr(claims, "show", original)
        transaction.on_commit(fail)
        return original(**values)

    def fail():
        raise OperationalError

    run_id, ids = items_of(line, shop, asks, 4)
    execution.execute(step_run_ids=ids, **LAB)
    assert sorted(message.id for message in line.messages) == ids[2:]
    line.deliver()
    assert state(run_id) == "succeeded"


@pytest.mark.parametrize("writing", [False, True])
def test_slice__that_ends_during_a_completion_keeps_what_that_has_claimed(
    line, shop, monkeypatch, writing
):
    def starts(ctx) -> int:
        if writing:
            with ctx.transaction():
                return 1
        return 1

    first, second = shop("start", starts), shop("going", lambda ctx, number: number)
    declared("pair", lambda inp: second(number=first()))
    durations.note(step="lab.start", seconds=0.001)
    run_id = start("lab.pair")
    original = completions.complete

    def late(**values):
        found = original(**values)
        time.sleep(batches.SLICE_SECONDS)
        return found

    monkeypatch.setattr(completions, "complete", late)
    monkeypatch.setattr(batches, "GROUP_SECONDS", 0.0)
    execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB)
    assert state(run_id) == "succeeded"
    assert set(StepRun.objects.values_list("attempt", "crashes")) == {(1, 0)}
    assert not Lease.objects.exists()


def test_transaction__inside_another_one_is_refused(line, shop):
    """It would be committed with the author's own, and take what others have finished with it."""

    def wrapped(ctx) -> int:
        with transaction.atomic(), ctx.transaction():
            return 1

    one = shop("one", wrapped)
    declared("single", lambda inp: one())
    run_id = start("lab.single")
    line.deliver()
    assert StepRun.objects.get(run_id=run_id).error_code == "transaction_in_transaction"
