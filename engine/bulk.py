"""One act on many runs or dead letters: looked at first, then done to each by itself.

Each goes through the same door as alone, in transactions of its own: one that refuses, or that was
gone on with meanwhile, holds up none of the others, and what was done before a cut stays done.
Doing it again acts on what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import dead_letter_selectors, dead_letters, run_selectors, runs
from engine.errors import EngineError
from engine.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.models import DeadLetter, Run

#: Most rows one call acts on: it is answered while the caller waits.
MOST_AT_ONCE = 1000
#: What a cancel can do something to.
CANCELLABLE = (RunState.PENDING, RunState.RUNNING, RunState.PAUSED, RunState.BLOCKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One that could not be acted on, and why."""

    id: Any
    code: str
    message: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was found, and what became of it; nothing was done in a preview."""

    found: list[Any]
    #: More match than one call takes: call again for the rest.
    is_cut: bool
    done: list[Any] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


def cancel(
    *, wanted: run_selectors.Wanted, actor: str, apply: bool, limit: int = MOST_AT_ONCE
) -> Outcome:
    """Cancel the runs that match and have not ended, newest first; a preview without `apply`."""
    found: list[Run] = run_selectors.runs(limit=limit + 1, wanted=wanted, states=CANCELLABLE)
    outcome = Outcome(found=found[:limit], is_cut=len(found) > limit)
    if apply:
        _each(outcome, lambda run: runs.cancel(run_id=run.id, actor=actor))
    return outcome


def requeue(*, wanted: dict[str, Any], actor: str, apply: bool, limit: int) -> Outcome:
    """Try the open dead letters that match again; a preview without `apply`."""
    return _letters(dead_letters.requeue, wanted=wanted, actor=actor, apply=apply, limit=limit)


def discard(*, wanted: dict[str, Any], actor: str, apply: bool, limit: int) -> Outcome:
    """Give the open dead letters that match up; a preview without `apply`."""
    return _letters(dead_letters.discard, wanted=wanted, actor=actor, apply=apply, limit=limit)


def _letters(
    door: Callable[..., object], *, wanted: dict[str, Any], actor: str, apply: bool, limit: int
) -> Outcome:
    found: list[DeadLetter] = dead_letter_selectors.dead_letters(
        limit=limit + 1, state="open", **wanted
    )
    outcome = Outcome(found=found[:limit], is_cut=len(found) > limit)
    if apply:
        _each(outcome, lambda letter: door(dead_letter_id=letter.pk, actor=actor))
    return outcome


def _each(outcome: Outcome, act: Callable[[Any], object]) -> None:
    rows: Iterable[Any] = outcome.found
    for row in rows:
        try:
            act(row)
        except EngineError as exc:
            outcome.refused.append(Refusal(id=row.pk, code=exc.code, message=exc.message))
        else:
            outcome.done.append(row.pk)
