"""What a step does outside the database, through every way in which the call can go wrong."""

from __future__ import annotations

import pytest
from django.db import OperationalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import effects, leases, runs, selectors, why
from engine.errors import CancelledError, ClaimLostError, StateConflictError
from engine.models import DeadLetter, Effect, Lease, OutboxEvent, RunEvent, StepRun
from engine.transitions import effects as moves
from tests.eventually import eventually
from tests.integration.engine.test_runs import executions, settle, start, state


@pytest.fixture
def begun(line, outside, tmp_path):
    """A run whose step calls the outside; the files named say what goes wrong."""

    def begin(*words: str, idempotent: bool = False):
        for word in words:
            (tmp_path / word).touch()
        return start("lab.outside", url=outside.url, folder=str(tmp_path), idempotent=idempotent)

    return begin


def lose_worker() -> None:
    """Let the lease of whoever runs something run out."""
    Lease.objects.update(expires_at="2000-01-01T00:00:00Z")
    assert leases.reap(limit=10) == 1


def die(line) -> None:
    """Deliver a step that ends its process in the middle, and let its worker be missed."""
    with pytest.raises(SystemExit):
        line.deliver()
    lose_worker()


def step_of(run_id) -> StepRun:
    return StepRun.objects.get(run_id=run_id)


def until_awaiting(line, run_id) -> Effect:
    settle_step(line, run_id, "awaiting")
    return Effect.objects.get()


def settle_step(line, run_id, wanted: str) -> None:
    def settled() -> bool:
        line.manage()
        line.deliver()
        return step_of(run_id).state == wanted

    eventually(settled, within=10, what=wanted)


def test_effect__is_made_once_and_its_receipt_is_kept(line, begun, outside):
    run_id = begun()
    line.deliver()
    key = f"{run_id}:call_outside:-1:call"
    assert state(run_id) == "succeeded"
    assert selectors.output(run_id=run_id) == {"key": key, "call": 1}
    found = Effect.objects.get()
    assert (found.state, found.key, found.attempt) == ("confirmed", key, 1)
    assert found.receipt == {"key": key, "call": 1}
    assert found.planned_at <= found.sent_at <= found.resolved_at


@pytest.mark.parametrize("idempotent", [False, True])
def test_effect__that_is_confirmed_is_not_made_by_later_attempts(
    line, begun, outside, tmp_path, idempotent
):
    run_id = begun("fail_after_effect", idempotent=idempotent)
    settle(line, run_id, "succeeded")
    assert executions(tmp_path, "call_outside") == 2
    assert list(outside.calls.values()) == [1]
    assert selectors.output(run_id=run_id)["call"] == 1
    assert Effect.objects.get().attempt == 1


def test_effect__that_was_certainly_not_sent_is_made_by_the_next_attempt(line, begun, outside):
    run_id = begun("refuse")
    line.deliver()
    row, found = step_of(run_id), Effect.objects.get()
    assert (row.state, row.error_code, row.failures) == ("retry_wait", "refused", 1)
    assert (found.state, found.error_code, found.receipt) == ("planned", "refused", None)
    settle(line, run_id, "succeeded")
    assert list(outside.calls.values()) == [1]
    assert Effect.objects.get().attempt == 2


def test_effect__lost_in_the_middle_asks_and_calls_nobody(line, begun, outside):
    run_id = begun("exit_after_call")
    die(line)
    assert Effect.objects.get().state == "sent"
    found = until_awaiting(line, run_id)
    row = step_of(run_id)
    assert (found.state, found.error_code, found.attempt) == ("unknown", "attempt_lost", 1)
    assert (row.claim, row.error_code, row.attempt) == (None, "effect_unknown", 2)
    assert (row.failures, row.crashes) == (0, 1)
    for words in (f"effects confirm {found.pk}", f"effects retry {found.pk}"):
        assert words in row.error_message
    assert not Lease.objects.exists()
    assert list(outside.calls.values()) == [1]
    assert state(run_id) == "running"
    event = RunEvent.objects.get(kind="step.awaiting")
    assert event.data["effect_id"] == found.pk
    told = OutboxEvent.objects.get(event_type="run.status.updated")
    (reason,) = why.explain(run_id=run_id).steps
    assert (reason.reason.cause, reason.reason.details["effect_id"]) == (
        "effect_unknown",
        found.pk,
    )
    assert (told.data["awaiting"], told.data["effect_id"]) == ("call_outside", found.pk)


def test_effect__that_never_reached_the_outside_asks_as_well(line, begun, outside):
    run_id = begun("exit_before_call")
    die(line)
    until_awaiting(line, run_id)
    assert not outside.calls


def test_effect__of_unknown_outcome_asks_at_once_and_stores_no_text(line, begun, outside):
    run_id = begun("break_after_call")
    line.deliver()
    row, found = step_of(run_id), Effect.objects.get()
    assert (row.state, row.attempt, row.failures) == ("awaiting", 1, 0)
    assert (found.state, found.error_code) == ("unknown", "TimeoutError")
    stored = [row.error_message, *map(str, RunEvent.objects.values_list("data", flat=True))]
    assert not [text for text in stored if "hunter2" in text]


def test_effect__with_a_receipt_that_cannot_be_kept_asks(line, begun, outside):
    run_id = begun("odd_receipt")
    line.deliver()
    found = Effect.objects.get()
    assert (found.state, found.error_code) == ("unknown", "receipt_invalid")
    effects.confirm(effect_id=found.pk, actor="ann", receipt={"id": "found by hand"})
    settle(line, run_id, "succeeded")
    assert selectors.output(run_id=run_id) == {"id": "found by hand"}


@pytest.mark.parametrize("word", ["exit_before_call", "exit_after_call", "break_after_call"])
def test_idempotent_effect__recovers_by_itself_with_the_same_key(line, begun, outside, word):
    run_id = begun(word, idempotent=True)
    if word.startswith("exit"):
        die(line)
    settle(line, run_id, "succeeded")
    assert list(outside.calls) == [f"{run_id}:call_outside:-1:call"]
    assert list(outside.calls.values()) == [1 if word == "exit_before_call" else 2]
    assert Effect.objects.get().state == "confirmed"


def test_confirm__lets_the_step_go_on_without_a_second_call(line, begun, outside):
    run_id = begun("exit_after_call")
    die(line)
    found = until_awaiting(line, run_id)
    assert effects.confirm(effect_id=found.pk, actor="ann", receipt={"seen": True}) == run_id
    row = step_of(run_id)
    assert (row.state, row.error_code, row.failures) == ("ready", "", 0)
    settle(line, run_id, "succeeded")
    assert list(outside.calls.values()) == [1]
    assert selectors.output(run_id=run_id) == {"seen": True}
    found.refresh_from_db()
    assert (found.state, found.resolved_by) == ("confirmed", "ann")
    event = RunEvent.objects.get(kind="effect.confirmed")
    assert (event.actor, event.data["effect_id"], event.step_run_id) == ("ann", found.pk, row.pk)


def test_retry__calls_again_with_the_same_key(line, begun, outside):
    run_id = begun("exit_after_call")
    die(line)
    found = until_awaiting(line, run_id)
    effects.retry(effect_id=found.pk, actor="ann")
    found.refresh_from_db()
    assert (found.state, step_of(run_id).state) == ("planned", "ready")
    settle(line, run_id, "succeeded")
    assert list(outside.calls.values()) == [2]
    assert RunEvent.objects.get(kind="effect.retried").actor == "ann"
    found.refresh_from_db()
    assert (found.state, found.attempt, found.resolved_by) == ("confirmed", 3, "")


@pytest.mark.parametrize("door", [effects.confirm, effects.retry])
def test_operators__answer_a_question_once(line, begun, outside, door):
    run_id = begun()
    line.deliver()
    with pytest.raises(StateConflictError, match="is confirmed"):
        door(effect_id=Effect.objects.get().pk, actor="ann")
    assert RunEvent.objects.filter(kind__startswith="effect").count() == 0
    assert state(run_id) == "succeeded"


def test_cancel__ends_a_run_whose_step_awaits_an_answer(line, begun, outside):
    run_id = begun("break_after_call")
    line.deliver()
    runs.cancel(run_id=run_id, actor="ann")
    assert (state(run_id), step_of(run_id).state) == ("cancelled", "cancelled")
    found = Effect.objects.get()
    with pytest.raises(StateConflictError, match="cancelled"):
        effects.retry(effect_id=found.pk, actor="ann")
    found.refresh_from_db()
    assert found.state == "unknown"
    effects.confirm(effect_id=found.pk, actor="ann")
    found.refresh_from_db()
    assert (found.state, step_of(run_id).state, state(run_id)) == (
        "confirmed",
        "cancelled",
        "cancelled",
    )


def test_call_cut_off_by_the_end_of_its_step__is_in_doubt_too(line, begun, outside):
    run_id = begun("exit_after_call")
    with pytest.raises(SystemExit):
        line.deliver()
    runs.cancel(run_id=run_id, actor="ann")
    lose_worker()
    assert step_of(run_id).state == "cancelled"
    found = Effect.objects.get()
    assert (found.state, found.error_code) == ("unknown", "attempt_lost")
    effects.confirm(effect_id=found.pk, actor="ann")
    assert Effect.objects.get().state == "confirmed"


def test_cancel__puts_a_call_in_doubt_whose_step_was_to_be_tried_again(line, begun, outside):
    run_id = begun("exit_after_call")
    die(line)
    assert (step_of(run_id).state, Effect.objects.get().state) == ("retry_wait", "sent")
    runs.cancel(run_id=run_id, actor="ann")
    assert (state(run_id), Effect.objects.get().state) == ("cancelled", "unknown")


@pytest.mark.parametrize(("idempotent", "left"), [(False, "unknown"), (True, "sent")])
def test_dead_step__leaves_its_call_in_doubt_unless_it_may_be_made_again(
    line, begun, outside, idempotent, left
):
    run_id = begun("exit_after_call", idempotent=idempotent)
    StepRun.objects.filter(run_id=run_id).update(crashes=2)
    die(line)
    assert (step_of(run_id).state, Effect.objects.get().state) == ("dead", left)


def test_late_answer__of_a_call_that_really_happened_is_the_truth(line, begun, outside):
    """The claim is lost during the call; its answer counts, the step's next attempt is given it."""
    run_id = begun("lose_claim")
    line.deliver()
    assert (step_of(run_id).state, Effect.objects.get().state) == ("retry_wait", "confirmed")
    settle(line, run_id, "succeeded")
    assert list(outside.calls.values()) == [1]


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("in_transaction", "effect_in_transaction"),
        ("in_own_transaction", "effect_in_transaction"),
        ("after_transaction", "effect_in_transaction"),
        ("nested", "effect_in_effect"),
        ("transaction_inside", "transaction_in_effect"),
        ("twice", "effect_twice"),
        ("nameless", "effect_name_invalid"),
    ],
)
def test_misuse__is_refused_for_good_with_its_name(line, mode, code):
    run_id = start("lab.misuse_effects", mode=mode)
    line.deliver()
    assert state(run_id) == "blocked"
    assert DeadLetter.objects.get().error_code == code


def test_question__cannot_be_swallowed_by_a_step(line):
    run_id = start("lab.misuse_effects", mode="swallow")
    line.deliver()
    assert (step_of(run_id).state, state(run_id)) == ("awaiting", "running")
    assert Effect.objects.get().state == "unknown"


def begun_by_a_zombie(line, run_id):
    """Claim the step and begin its effect; then lose the claim before the answer is there."""
    (zombie,) = leases.claim(step_run_ids=[step_of(run_id).pk], worker="zombie/1")
    line.messages.clear()
    ledger = effects.StepEffects(step=zombie, prefix=f"{run_id}:call_outside:-1")

    def answer_late(meanwhile):
        with pytest.raises(ClaimLostError):
            ledger.make("call", lambda key: meanwhile() or {"late": key}, idempotent=False)

    return answer_late


def test_late_answer__lets_the_step_go_on_that_asks_about_it(line, begun, outside):
    run_id = begun()

    def meanwhile():
        lose_worker()
        assert until_awaiting(line, run_id).state == "unknown"

    begun_by_a_zombie(line, run_id)(meanwhile)
    assert (step_of(run_id).state, Effect.objects.get().state) == ("ready", "confirmed")
    assert RunEvent.objects.filter(kind="step.released", actor="zombie/1").exists()
    settle(line, run_id, "succeeded")
    assert not outside.calls
    assert selectors.output(run_id=run_id) == {"late": f"{run_id}:call_outside:-1:call"}


def test_late_answer__counts_while_nobody_has_begun_the_call_anew(line, begun, outside):
    run_id = begun()

    def meanwhile():
        lose_worker()
        effects.retry(effect_id=until_awaiting(line, run_id).pk, actor="ann")

    begun_by_a_zombie(line, run_id)(meanwhile)
    settle(line, run_id, "succeeded")
    assert not outside.calls


def test_late_answer__is_dropped_once_others_have_called(line, begun, outside):
    run_id = begun()

    def meanwhile():
        lose_worker()
        effects.retry(effect_id=until_awaiting(line, run_id).pk, actor="ann")
        settle(line, run_id, "succeeded")

    begun_by_a_zombie(line, run_id)(meanwhile)
    assert list(outside.calls.values()) == [1]
    assert Effect.objects.get().receipt["call"] == 1


def test_late_answer__does_not_overrule_an_operator_who_confirmed(line, begun, outside):
    run_id = begun()

    def meanwhile():
        lose_worker()
        effects.confirm(effect_id=until_awaiting(line, run_id).pk, actor="ann", receipt="hers")

    begun_by_a_zombie(line, run_id)(meanwhile)
    settle(line, run_id, "succeeded")
    assert selectors.output(run_id=run_id) == "hers"


def test_cancelled_run__makes_no_effect_any_more(line, begun, outside):
    run_id = begun()
    (held,) = leases.claim(step_run_ids=[step_of(run_id).pk], worker="w/1")
    runs.cancel(run_id=run_id, actor="ann")
    ledger = effects.StepEffects(step=held, prefix="k")
    with pytest.raises(CancelledError):
        ledger.make("call", lambda _key: pytest.fail("called"), idempotent=False)
    assert not Effect.objects.exists()


def test_cancel_during_the_call__leaves_the_doubt_written_down(line, begun, outside):
    run_id = begun()
    (held,) = leases.claim(step_run_ids=[step_of(run_id).pk], worker="w/1")
    ledger = effects.StepEffects(step=held, prefix="k")

    def call(_key):
        runs.cancel(run_id=run_id, actor="ann")
        raise CancelledError

    with pytest.raises(CancelledError):
        ledger.make("call", call, idempotent=False)
    assert (Effect.objects.get().state, step_of(run_id).state) == ("unknown", "running")


def test_claim_that_is_lost__begins_no_effect(line, begun, outside):
    run_id = begun()
    (zombie,) = leases.claim(step_run_ids=[step_of(run_id).pk], worker="zombie/1")
    lose_worker()
    ledger = effects.StepEffects(step=zombie, prefix="k")
    with pytest.raises(ClaimLostError):
        ledger.make("call", lambda _key: pytest.fail("called"), idempotent=False)
    assert not Effect.objects.exists()


def test_database_that_restarts_during_the_call__is_waited_for(line, begun, outside, monkeypatch):
    run_id = begun()
    real, broken = moves.answer, []

    def once_away(**values):
        if not broken:
            broken.append(True)
            raise OperationalError("the server closed the connection")
        return real(**values)

    monkeypatch.setattr(moves, "answer", once_away)
    line.deliver()
    assert (state(run_id), broken) == ("succeeded", [True])
    assert list(outside.calls.values()) == [1]
    assert step_of(run_id).attempt == 1


MOMENTS = ["refuse", "exit_before_call", "exit_after_call", "break_after_call", "exit_after_effect"]
#: Of these nobody knows afterwards whether the call happened.
DOUBTFUL = {"exit_before_call", "exit_after_call", "break_after_call"}


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    plan=st.tuples(
        st.lists(st.sampled_from(MOMENTS), max_size=2),
        st.lists(st.sampled_from(["confirm", "retry"]), min_size=3, max_size=3),
        st.booleans(),
    )
)
def test_effect__whatever_goes_wrong_and_is_answered(line, begun, outside, tmp_path, plan):
    """Nobody is called again without an operator's word or the author's; one key for all calls."""
    trouble, answers, idempotent = plan
    before = set(outside.calls)
    run_id = begun(idempotent=idempotent)
    retried = 0
    script, words, touched = list(trouble), list(answers), []

    def goes_on() -> bool:
        nonlocal retried
        row = step_of(run_id)
        if row.state == "awaiting":
            found = Effect.objects.get(run_id=run_id)
            word = words.pop(0) if words else "confirm"
            retried += word == "retry"
            getattr(effects, word)(effect_id=found.pk, actor="ann")
        line.manage()
        if script and line.messages and not (tmp_path / script[0]).exists():
            touched.append(script.pop(0))
            (tmp_path / touched[-1]).touch()
        try:
            line.deliver()
        except SystemExit:
            lose_worker()
        return state(run_id) == "succeeded"

    eventually(goes_on, within=15, what="the end of the run")
    for word in MOMENTS:
        if (tmp_path / word).exists():
            touched.remove(word)
            (tmp_path / word).unlink()
    doubts = [] if idempotent else [word for word in touched if word in DOUBTFUL]
    asked = RunEvent.objects.filter(run_id=run_id, kind="step.awaiting").count()
    assert asked == len(doubts)
    keys = set(outside.calls) - before
    assert keys <= {f"{run_id}:call_outside:-1:call"}
    made = sum(outside.calls[key] for key in keys)
    assert made <= 1 + retried + (len(touched) if idempotent else 0)
    found = Effect.objects.get(run_id=run_id)
    assert (found.state, step_of(run_id).state) == ("confirmed", "succeeded")
    if not made:
        assert found.resolved_by == "ann"
