"""Judge why a step waits or works: from the facts of its run to one cause and one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings

from engine.causes import WaitCause
from engine.states import RunState, StepState
from engine.wording import moment, span

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from engine.graph import Graph
    from engine.models import DeadLetter, Run

#: Ready for longer than this and still not sent: it stands in line behind others that were, or
#: whoever sends is away. In seconds.
DISPATCH_SECONDS = 5
#: Dead letters that the sentence about a blocked run names.
NAMED_LETTERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A cause, a sentence for people, and the facts in it as data."""

    cause: WaitCause
    text: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReason:
    """Why a step has not ended yet."""

    step_run_id: int
    step: str
    state: str
    reason: Reason

    @property
    def reason_code(self) -> str:
        """Return the stable code of the cause."""
        return self.reason.cause.value

    @property
    def text(self) -> str:
        """Return the sentence for people."""
        return self.reason.text


@dataclass(slots=True, kw_only=True)
class Facts:
    """What the causes of one run are judged by."""

    run: Run
    graph: Graph
    now: datetime
    paused: bool
    limit: int | None
    in_flight: int | None
    #: Whether steps of the department stand in its queue or wait in a worker's hands.
    in_line: bool
    #: Queues that a present worker consumes.
    served: set[str]
    #: StepRun id -> (worker that has fetched it, its place there, of how many).
    held: dict[int, tuple[str, int, int]]
    #: Key -> how many of its executions have not succeeded.
    open: dict[str, int]
    #: Open dead letters, and by key the first one upstream of it.
    letters: list[DeadLetter]
    upstream: dict[str, DeadLetter]
    #: StepRun id -> its unknown effect.
    effects: dict[int, Any]


def of_step(row: Any, facts: Facts) -> Reason:
    """Return the reason of a step that has not ended; `row` is one of `why.STEPS`."""
    if facts.run.state == RunState.CANCELLING and row.state != StepState.RUNNING:
        return Reason(cause=WaitCause.RUN_ENDING, text="the run is being ended")
    return _BY_STATE[StepState(row.state)](row, facts)


def cause_of_waiting(
    *,
    state: str,
    run_state: str,
    paused: bool,
    full: bool,
    in_line: bool,
    served: bool,
) -> WaitCause:
    """Return why a ready or queued step that nobody holds waits: the first obstacle on its way."""
    if run_state == RunState.CANCELLING:
        return WaitCause.RUN_ENDING
    if run_state == RunState.PAUSED:
        return WaitCause.RUN_PAUSED
    if paused:
        return WaitCause.DEPARTMENT_PAUSED
    if not served:
        return WaitCause.NO_WORKER
    if state == StepState.READY and full:
        return WaitCause.CONCURRENCY
    return WaitCause.QUEUED if state == StepState.QUEUED or in_line else WaitCause.DISPATCH


def _running(row: Any, facts: Facts) -> Reason:
    details = {
        "worker": row.worker,
        "since": row.started_at,
        "attempt": row.attempt,
        "lease_expires_at": row.expires_at,
        "deadline_at": row.deadline_at,
    }
    text = f"running on {row.worker} since {moment(row.started_at)}, attempt {row.attempt}"
    if row.expires_at is None or row.expires_at < facts.now:
        if row.deadline_at is not None and row.deadline_at == row.expires_at:
            late = span(facts.now - row.deadline_at)
            text = f"ran past its deadline on {row.worker} {late} ago; the manager ends the attempt"
            return Reason(cause=WaitCause.DEADLINE_PASSED, text=text, details=details)
        text = f"its worker {row.worker} is silent; the manager ends the attempt"
        return Reason(cause=WaitCause.WORKER_SILENT, text=text, details=details)
    if row.cancel_requested:
        details["grace_seconds"] = settings.CANCEL_GRACE_SECONDS
        text += f"; asked to stop, ended after {settings.CANCEL_GRACE_SECONDS:g} s"
        return Reason(cause=WaitCause.CANCELLING, text=text, details=details)
    if row.deadline_at is not None:
        text += f", until {moment(row.deadline_at)} at the latest"
    return Reason(cause=WaitCause.RUNNING, text=text, details=details)


def _waiting(row: Any, facts: Facts) -> Reason:
    parents = facts.graph.by_key[row.key].parents
    missing = {key: facts.open[key] for key in parents if key in facts.open}
    # Its last parent may have ended between two queries: it waited for them a moment ago.
    names = [key if number == 1 else f"{key} ({number} open)" for key, number in missing.items()]
    details: dict[str, Any] = {"parents": list(missing) or parents}
    letter = facts.upstream.get(row.key)
    if letter is None:
        text = f"waits for {', '.join(names or parents)}"
        return Reason(cause=WaitCause.DEPENDENCY, text=text, details=details)
    text = f"waits for {letter.step}, which failed ({letter.error_code}); {_remedy(letter)}"
    return Reason(
        cause=WaitCause.UPSTREAM_DEAD_LETTER, text=text, details={**details, **_named(letter)}
    )


def _unclaimed(row: Any, facts: Facts) -> Reason:
    """Explain a ready or queued step."""
    holder, place, number = facts.held.get(row.id, (row.holder or row.worker, None, None))
    if row.state == StepState.QUEUED and (row.claim is not None or place is not None):
        text = f"held by the worker {holder}" + (f" as {place} of {number}" if place else "")
        details = {"worker": holder, "position": place, "held": number, "queue": row.queue}
        return Reason(cause=WaitCause.HELD, text=text, details=details)
    cause = cause_of_waiting(
        state=row.state,
        run_state=facts.run.state,
        paused=facts.paused,
        full=facts.limit is not None and (facts.in_flight or 0) >= facts.limit,
        in_line=facts.in_line and _age(row, facts) >= timedelta(seconds=DISPATCH_SECONDS),
        served=row.queue in facts.served,
    )
    details = {"queue": row.queue, "since": row.ready_at}
    if cause == WaitCause.CONCURRENCY:
        details.update(department=row.lane, limit=facts.limit, in_flight=facts.in_flight)
    if cause == WaitCause.DEPARTMENT_PAUSED:
        details["department"] = row.lane
    if cause == WaitCause.QUEUED:
        details["sent_at"] = row.dispatched_at if row.state == StepState.QUEUED else None
    return Reason(cause=cause, text=_sentence(cause, row, facts), details=details)


def _sentence(cause: WaitCause, row: Any, facts: Facts) -> str:
    age = _age(row, facts)
    if cause == WaitCause.DISPATCH:
        if age < timedelta(seconds=DISPATCH_SECONDS):
            return "ready; the manager sends it within a second"
        return f"ready for {span(age)} and not sent: no manager works, or Redis is away"
    if cause == WaitCause.QUEUED and row.state == StepState.READY:
        return f"in line behind others of {row.lane}; waits for a free worker for {span(age)}"
    return {
        WaitCause.RUN_PAUSED: "the run is paused; resume it",
        WaitCause.DEPARTMENT_PAUSED: f"the department {row.lane} is paused; resume it",
        WaitCause.NO_WORKER: f"no worker consumes the queue {row.queue}; waits for {span(age)}",
        WaitCause.CONCURRENCY: f"{row.lane} runs at most {facts.limit} steps at once and has "
        f"{facts.in_flight}; waits for {span(age)}",
        WaitCause.QUEUED: f"sent to the queue {row.queue}; waits for a free worker for {span(age)}",
    }[cause]


def _age(row: Any, facts: Facts) -> timedelta:
    return facts.now - row.ready_at if row.ready_at else timedelta(0)


def _backoff(row: Any, facts: Facts) -> Reason:
    details = {"until": row.next_at, "error_code": row.error_code, "attempt": row.attempt}
    if facts.run.state == RunState.PAUSED:
        text = f"the run is paused; resume it (failed: {row.error_code})"
        return Reason(cause=WaitCause.RUN_PAUSED, text=text, details=details)
    if facts.paused:
        text = f"the department {row.lane} is paused; resume it (failed: {row.error_code})"
        details["department"] = row.lane
        return Reason(cause=WaitCause.DEPARTMENT_PAUSED, text=text, details=details)
    text = f"failed ({row.error_code}) and is tried again at {moment(row.next_at)}"
    return Reason(cause=WaitCause.BACKOFF, text=text, details=details)


def _sleeping(row: Any, _facts: Facts) -> Reason:
    text = f"sleeps until {moment(row.next_at)}"
    return Reason(cause=WaitCause.SLEEPING, text=text, details={"until": row.next_at})


def _awaiting(row: Any, facts: Facts) -> Reason:
    effect = facts.effects.get(row.id)
    if effect is None:
        text = "waits for an answer from outside"
        return Reason(cause=WaitCause.AWAITING, text=text, details={"until": row.next_at})
    text = (
        f"whether {effect.name} was done is not known; find out, then: "
        f"manage.py effects confirm {effect.id}, or effects retry {effect.id} --apply"
    )
    details = {"effect_id": effect.id, "effect": effect.name, "since": effect.sent_at}
    return Reason(cause=WaitCause.EFFECT_UNKNOWN, text=text, details=details)


#: Every state of a step that has not ended has its explanation here.
_BY_STATE: dict[StepState, Callable[[Any, Facts], Reason]] = {
    StepState.WAITING: _waiting,
    StepState.READY: _unclaimed,
    StepState.QUEUED: _unclaimed,
    StepState.RUNNING: _running,
    StepState.RETRY_WAIT: _backoff,
    StepState.SLEEPING: _sleeping,
    StepState.AWAITING: _awaiting,
}


def of_run(facts: Facts, steps: list[StepReason]) -> Reason:
    """Explain the run itself: what an operator must do, else what its foremost step does."""
    state = facts.run.state
    if state == RunState.CANCELLING:
        text = f"the run is being ended as {facts.run.ending.replace('_', ' ')}"
        return Reason(cause=WaitCause.RUN_ENDING, text=text, details={"ending": facts.run.ending})
    if state == RunState.PAUSED:
        return Reason(cause=WaitCause.RUN_PAUSED, text="the run is paused; resume it")
    if state == RunState.BLOCKED:
        named = [f"{letter.step} failed ({letter.error_code})" for letter in facts.letters]
        remedy = _remedy(facts.letters[0]) if facts.letters else "no letter of it is open"
        return Reason(
            cause=WaitCause.BLOCKED,
            text="; ".join([*named[:NAMED_LETTERS], remedy]),
            details={"dead_letters": [_named(letter) for letter in facts.letters]},
        )
    foremost = min(steps, key=_rank, default=None)
    if foremost is None:
        return Reason(cause=WaitCause.RUN_ENDING, text="its last step has just ended")
    return Reason(
        cause=foremost.reason.cause,
        text=f"{foremost.step}: {foremost.text}",
        details={"step_id": foremost.step_run_id, "step": foremost.step} | foremost.reason.details,
    )


def _rank(step: StepReason) -> int:
    """Order steps by how far they are; the causes stand in the order of a step's way."""
    return -list(WaitCause).index(step.reason.cause)


def _named(letter: DeadLetter) -> dict[str, Any]:
    return {
        "dead_letter_id": letter.pk,
        "step": letter.step,
        "error_code": letter.error_code,
        "since": letter.created_at,
        "commands": [f"dlq requeue {letter.pk} --apply", f"dlq discard {letter.pk} --apply"],
    }


def _remedy(letter: DeadLetter) -> str:
    return f"manage.py dlq requeue {letter.pk} --apply, or discard it"
