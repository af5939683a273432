"""What a step does outside the database: written down before the call and after it.

A call whose answer was lost is never made again blindly: unless the other system drops doubles by
key, the step waits until an operator has found out (`confirm`, `retry`).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings

from engine import outcomes, spans, sql, tracing
from engine.audit import trail
from engine.errors import (
    CancelledError,
    ClaimLostError,
    EffectUnknownError,
    EngineError,
    InputInvalidError,
    NotFoundError,
    NotSentError,
    StateConflictError,
    StepError,
)
from engine.states import RUN_TERMINAL, RunState, StepState
from engine.transitions import effects as moves
from engine.values import holds_nul, is_storable, storable

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from engine.transitions.claims import Claimed

MAX_NAME_CHARACTERS = 100
MAX_RECEIPT_BYTES = 16_384
#: What the column of an error's code holds, in characters.
MAX_CODE = 100
#: Answers to "may I call" that took longer than this part of a lease are asked for again.
STALE_PART_OF_LEASE = 3
#: The code of a call whose attempt ended without a word (also in `moves.DOUBT`).
ATTEMPT_LOST = "attempt_lost"
#: Runs that are over or on their way: nothing of them is done any more.
_ENDING = {*RUN_TERMINAL, RunState.CANCELLING}

log = structlog.get_logger(__name__)


class StepEffects:
    """The effects of one attempt of a step."""

    def __init__(self, *, step: Claimed, prefix: str, span: tracing.Span = tracing.NOTHING) -> None:
        self._step = step
        self._span = span
        self._prefix = prefix
        self._made: set[str] = set()
        #: Whether an author's call is being made just now.
        self.calling = False

    def make(self, name: str, call: Callable[[str], Any], *, idempotent: bool) -> Any:
        """Return the receipt of the effect, calling at most once in this attempt."""
        self._check(name)
        key = f"{self._prefix}:{name}"
        while True:
            found = self._begin(name, key, idempotent=idempotent)
            if found.state == "confirmed":
                return found.receipt
            if found.state == "sent" and found.attempt == self._step.attempt:
                return self._call(found.id, name, key, call, idempotent=idempotent)
            # Begun by an attempt that is gone. Should it have answered just now, look again.
            self._ask(found.id, name, found.error_code or ATTEMPT_LOST)

    def _check(self, name: str) -> None:
        if not (0 < len(name) <= MAX_NAME_CHARACTERS and is_storable(name)):
            message = f"An effect needs a name of at most {MAX_NAME_CHARACTERS} characters."
            raise StepError("effect_name_invalid", message, permanent=True)
        if self.calling:
            message = f"The effect {name!r} is made inside the call of another one."
            raise StepError("effect_in_effect", message, permanent=True)
        if name in self._made:
            message = f"Two effects of this step are called {name!r}: one would hide the other."
            raise StepError("effect_twice", message, permanent=True)
        self._made.add(name)

    def _begin(self, name: str, key: str, *, idempotent: bool) -> moves.Begun:
        """Ask whether to call, until the answer is fresh.

        A process that was stopped meanwhile (a full machine, a suspended host) may have lost its
        claim since; the same question then says so.
        """
        while True:
            asked_at = time.monotonic()
            found: moves.Begun = outcomes.persistently(
                lambda: moves.begin(step=self._step, name=name, key=key, idempotent=idempotent),
            )
            if time.monotonic() - asked_at < settings.LEASE_SECONDS / STALE_PART_OF_LEASE:
                return found

    def _call(
        self, effect_id: int, name: str, key: str, call: Callable[[str], Any], *, idempotent: bool
    ) -> Any:
        self.calling = True
        try:
            with spans.effect(name, parent=self._span.traceparent):
                receipt = _receipt(name, call(key))
        except NotSentError as exc:
            self._answer(effect_id, state="planned", code=_code(exc))
            raise
        except CancelledError:
            if not idempotent:
                self._ask(effect_id, name, "cancelled")
            raise
        except Exception as exc:
            if not idempotent:
                log.exception("effect_outcome_unknown", effect=name, effect_id=effect_id)
                self._ask(effect_id, name, _code(exc))
            raise
        finally:
            self.calling = False
        return self._answer(effect_id, state="confirmed", receipt=receipt)

    def _answer(self, effect_id: int, *, state: str, receipt: Any = None, code: str = "") -> Any:
        """Record what the call came to and return the receipt as it will be read later."""
        step = self._step

        def write() -> tuple[bool, Any]:
            row = moves.lock_step(effect_id=effect_id)
            held = row is not None and (row.state, row.claim) == (StepState.RUNNING, step.claim)
            stored = moves.answer(
                effect_id=effect_id, attempt=step.attempt, state=state, receipt=receipt, code=code
            )
            if row is not None and stored and not held:
                log.warning("effect_answered_late", effect_id=effect_id, state=state)
                moves.go_on(step_run_id=row.id, effect_id=effect_id, actor=step.worker)
            return held, stored[0] if stored else receipt

        held, stored = outcomes.persistently(lambda: sql.patiently(write))
        if not held:
            raise ClaimLostError
        return stored

    def _ask(self, effect_id: int, name: str, code: str) -> None:
        """Let the step wait for an operator; return when the effect was answered just now."""
        message = question(effect_id=effect_id, name=name, code=code)
        waits: bool = outcomes.persistently(
            lambda: moves.ask(step=self._step, effect_id=effect_id, code=code, message=message),
        )
        if waits:
            raise EffectUnknownError


def question(*, effect_id: int, name: str, code: str) -> str:
    """Return what an operator is asked about an effect of unknown outcome."""
    return (
        f"Effect {effect_id} ({name}) was begun and nobody knows whether it happened ({code})."
        f" Find out, then: manage.py effects confirm {effect_id} (it happened),"
        f" or manage.py effects retry {effect_id} --apply (it did not)."
    )


def confirm(*, effect_id: int, actor: str, receipt: Any = None) -> UUID:
    """Say that an unknown effect happened; its step goes on and is given the receipt.

    Of a run that has ended meanwhile the truth is recorded all the same. Returns the run's id.
    Raises NotFoundError, or StateConflictError when nothing is unknown about the effect.
    """
    if reason := _unfit(receipt):
        problems = [{"field": "receipt", "reason": f"is {reason}"}]
        raise InputInvalidError(f"The receipt is {reason}.", problems=problems)
    return _resolve(
        effect_id,
        actor,
        state="confirmed",
        receipt=receipt,
        verb="confirm",
        kind="effect.confirmed",
    )


def retry(*, effect_id: int, actor: str) -> UUID:
    """Say that an unknown effect did not happen; its step goes on and calls again, same key.

    Returns the run's id. Raises NotFoundError, or StateConflictError when nothing is unknown about
    the effect or its run is over.
    """
    return _resolve(
        effect_id, actor, state="planned", receipt=None, verb="retry", kind="effect.retried"
    )


def _resolve(effect_id: int, actor: str, *, state: str, receipt: Any, verb: str, kind: str) -> UUID:
    def move() -> UUID:
        step = moves.lock_step(effect_id=effect_id)
        if step is None:
            raise NotFoundError(f"There is no effect {effect_id}")
        found = moves.lock(effect_id=effect_id)
        if found.state != "unknown":
            raise StateConflictError(f"Effect {effect_id}", wanted=f"{verb} it", actual=found.state)
        if verb == "retry" and found.run_state in _ENDING:
            raise StateConflictError(
                "The run", wanted="retry an effect of it", actual=found.run_state
            )
        moves.resolve(effect_id=effect_id, state=state, receipt=receipt, kind=kind, actor=actor)
        moves.go_on(step_run_id=step.id, effect_id=effect_id, actor=actor)
        trail.record(
            f"effect.{verb}",
            kind="effect",
            id=effect_id,
            actor=actor,
            before={"state": "unknown", "run_id": found.run_id},
            after={"state": state, "run_id": found.run_id},
        )
        run_id: UUID = found.run_id
        return run_id

    return sql.patiently(move)


def _receipt(name: str, answer: Any) -> Any:
    """Return what a call answered; StepError when it cannot be kept."""
    if reason := _unfit(answer):
        message = f"The effect {name!r} returned {reason}."
        raise StepError("receipt_invalid", message, permanent=True)
    return answer


def _unfit(receipt: Any) -> str:
    """Return why a receipt cannot be kept, or nothing."""
    try:
        encoded = json.dumps(receipt, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "something that is not plain JSON"
    if not is_storable(encoded) or holds_nul(encoded):
        return "text that cannot be stored"
    if len(encoded.encode()) > MAX_RECEIPT_BYTES:
        return f"more than {MAX_RECEIPT_BYTES} bytes"
    return ""


def _code(error: Exception) -> str:
    """Return what may be stored of an error: its code, else its class; never its text."""
    if isinstance(error, EngineError):
        return storable(error.code)[:MAX_CODE]
    return type(error).__name__[:MAX_CODE]
