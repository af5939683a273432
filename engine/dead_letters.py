"""What an operator does with a step that failed for good."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models.functions import Now

from engine import selectors, spans, sql, tracing
from engine.audit import trail
from engine.errors import NotFoundError, StateConflictError
from engine.models import DeadLetter
from engine.states import RunState
from engine.transitions import requeue as moves
from engine.transitions import runs as run_moves

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

#: States of a run from which a dead step can go on. A cancelled run stays what its owner made it.
REQUEUABLE = frozenset({RunState.BLOCKED, RunState.FAILED, RunState.PAUSED, RunState.RUNNING})


def requeue(*, dead_letter_id: int, actor: str) -> UUID:
    """Try the dead step again with fresh attempts; its run goes on and keeps all good results.

    Raises NotFoundError, or StateConflictError when the letter is closed or the run cannot go on:
    it was cancelled, or another dead step of it was given up.
    """

    def move() -> UUID:
        letter = _open_letter(dead_letter_id, wanted="requeue it")
        _requeue([letter], wanted="requeue a step of it", actor=actor)
        found: UUID = letter.run_id
        return found

    return sql.patiently(move)


def retry_run(*, run_id: UUID, actor: str) -> int:
    """Try every dead step of a run again, as one new generation; return how many there were.

    Raises NotFoundError, or StateConflictError when none is dead or the run cannot go on.
    """

    def move() -> int:
        letters = moves.lock_letters(run_id=run_id)
        if not letters:
            actual = selectors.run(run_id=run_id).state
            given_up = moves.given_up(run_id=run_id)
            if given_up is not None:
                raise StateConflictError(
                    f"Step {given_up} of the run", wanted="retry it", actual="given up"
                )
            raise StateConflictError(
                "The run", wanted="retry it: none of its steps is dead", actual=actual
            )
        _requeue(letters, wanted="retry it", actor=actor)
        after = {"steps": len(letters)}
        trail.record("run.retry", kind="run", id=run_id, actor=actor, after=after)
        return len(letters)

    return sql.patiently(move)


def _requeue(letters: Sequence[Any], *, wanted: str, actor: str) -> None:
    """Let the dead steps of one run go on, within a transaction that holds their letters."""
    run_id, before = letters[0].run_id, letters[0].run_state
    if before not in REQUEUABLE:
        raise StateConflictError("The run", wanted=wanted, actual=before)
    failed = before == RunState.FAILED
    for letter in letters:
        moves.revive(run_id=run_id, step_run_id=letter.step_run_id, failed=failed, actor=actor)
    # The run comes last (locks), so it may have moved on meanwhile; then nothing was done.
    actual = run_moves.lock(run_id=run_id)
    if actual not in REQUEUABLE or (actual == RunState.FAILED) != failed:
        raise StateConflictError("The run", wanted=wanted, actual=actual)
    given_up = moves.given_up(run_id=run_id)
    if given_up is not None:
        raise StateConflictError(
            f"Step {given_up} of the same run", wanted=wanted, actual="given up"
        )
    if failed and not run_moves.take_key_back(run_id=run_id):
        raise StateConflictError(
            "The business key of the run", wanted=wanted, actual="with a later run that goes on"
        )
    moves.reopen(run_id=run_id)
    for letter in letters:
        moves.resolve(dead_letter_id=letter.id, state="requeued", actor=actor)
        run_moves.note(run_id=run_id, kind="run.requeued", actor=actor, dead_letter_id=letter.id)
        _record("dead_letter.requeue", letter, actor, state="requeued")
        if tracing.is_on():
            transaction.on_commit(partial(spans.requeued, letter))


def discard(*, dead_letter_id: int, actor: str) -> None:
    """Give the step up: a run that was blocked by it ends as failed."""

    def move() -> tuple[UUID, bool]:
        letter = _open_letter(dead_letter_id, wanted="discard it")
        # A requeue of the run's other letters comes wholly before this or sees it.
        run_moves.lock(run_id=letter.run_id)
        moves.resolve(dead_letter_id=dead_letter_id, state="discarded", actor=actor)
        ending = run_moves.begin_ending(
            run_id=letter.run_id,
            ending=RunState.FAILED,
            code="dead_letter_discarded",
            message=f"Step {letter.step} was given up by {actor or 'an operator'}.",
        )
        run_moves.note(
            run_id=letter.run_id,
            kind="dead_letter.discarded",
            actor=actor,
            dead_letter_id=dead_letter_id,
        )
        _record("dead_letter.discard", letter, actor, state="discarded")
        return letter.run_id, ending

    run_id, ending = sql.patiently(move)
    if ending:
        sql.patiently(lambda: run_moves.sweep(run_id=run_id))
        run_moves.end(run_id=run_id)


def notified(*, dead_letter_id: int) -> DeadLetter | None:
    """Note that somebody was told; None when it was noted before or the letter is gone."""
    first = DeadLetter.objects.filter(pk=dead_letter_id, notified_at__isnull=True).update(
        notified_at=Now()
    )
    return DeadLetter.objects.get(pk=dead_letter_id) if first else None


def _record(action: str, letter: Any, actor: str, *, state: str) -> None:
    trail.record(
        action,
        kind="dead_letter",
        id=letter.id,
        actor=actor,
        before={"state": "open", "run_id": letter.run_id},
        after={"state": state, "run_id": letter.run_id},
    )


def _open_letter(dead_letter_id: int, *, wanted: str) -> Any:
    letter = moves.lock_letter(dead_letter_id=dead_letter_id)
    if letter is None:
        raise NotFoundError(f"There is no dead letter {dead_letter_id}")
    if letter.state != "open":
        raise StateConflictError("The dead letter", wanted=wanted, actual=letter.state)
    return letter
