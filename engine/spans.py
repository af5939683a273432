"""What the engine's spans are called and say: ids, names, numbers and codes, never a payload.

A run's `traceparent` names the span of its submission. What is done for the run later, by whichever
process, and however often it is tried or requeued, hangs below that one, in its trace.

Steps come here as they are held (`transitions.claims.Claimed`) or as rows with the same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import sql, tracing
from engine.graph import UNMAPPED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.publishing import ReadyStep

NO_PARENTS: Mapping[str, str] = {}
# The runs of steps that were sent: asked by a process that traces, after it has sent them.
RUNS_OF_STEPS = """
SELECT r.id, r.automation, r.department, r.traceparent, count(*) AS steps
FROM engine_steprun s JOIN engine_run r ON r.id = s.run_id
WHERE s.id = ANY(%(ids)s::bigint[]) AND r.traceparent <> '' GROUP BY r.id
"""


def submission(*, automation: str, department: str, run_id: Any, parent: str) -> tracing.Span:
    """Begin the span that a run hangs below, itself below `parent` or what is done here."""
    if not tracing.is_on():
        return tracing.NOTHING
    words = {"run.id": str(run_id), "run.automation": automation, "run.department": department}
    return tracing.begin(
        f"submit {automation}", parent=parent or tracing.current.get(), words=words
    )


def planning(submitted: tracing.Span, *, automation: str) -> tracing.Span:
    """Begin the span of a run's plan: its row, its steps and its event, one statement."""
    if not tracing.is_on():
        return tracing.NOTHING
    return tracing.begin(f"plan {automation}", parent=submitted.traceparent)


def sending(steps: Sequence[ReadyStep], *, parent: str) -> tracing.Span:
    """Begin the span in which the messages of these steps are sent, if there are any."""
    if not steps or not tracing.is_on():
        return tracing.NOTHING
    words = _messaging("celery", "send", steps[0].queue)
    words["messaging.batch.message_count"] = len(steps)
    return tracing.begin(f"send {steps[0].queue}", kind="producer", parent=parent, words=words)


def dispatched(steps: Sequence[ReadyStep], *, took_seconds: float) -> int:
    """Leave a span in the trace of each run whose steps were sent just now; one query.

    Returns how many those are.
    """
    queue = steps[0].queue
    found = sql.rows(RUNS_OF_STEPS, {"ids": sql.array(step.id for step in steps)})
    for row in found:
        words = _messaging("celery", "send", queue) | {
            "run.id": str(row.id),
            "run.automation": row.automation,
            "run.department": row.department,
            "messaging.batch.message_count": row.steps,
        }
        tracing.begin(
            f"dispatch {queue}",
            kind="producer",
            parent=row.traceparent,
            words=words,
            ago_seconds=took_seconds,
        ).end({})
    return len(found)


def received(
    held: Sequence[Any], *, queue: str, task_id: str, took_seconds: float
) -> Mapping[str, str]:
    """Leave a span of a message and its claim in the trace of each run it names.

    Returns, by the run's traceparent, what the attempts of its steps hang below.
    """
    if not tracing.is_on():
        return NO_PARENTS
    found = {}
    for step in {one.run_id: one for one in held if one.traceparent}.values():
        words = _messaging("celery", "receive", queue) | {
            "messaging.message.id": task_id,
            "run.id": str(step.run_id),
            "worker": step.worker,
        }
        span = tracing.begin(
            f"receive {queue}",
            kind="consumer",
            parent=step.traceparent,
            words=words,
            ago_seconds=took_seconds,
        )
        span.end({})
        found[step.traceparent] = span.traceparent
    return found


def attempt(step: Any, parents: Mapping[str, str]) -> tracing.Span:
    """Begin the span of one attempt of a step, below the message that brought it."""
    if not tracing.is_on() or not step.traceparent:
        return tracing.NOTHING
    return tracing.begin(
        f"{'plan' if step.kind == 'map' else 'step'} {step.key}",
        parent=parents.get(step.traceparent, step.traceparent),
        words=_of_step(step) | {"step.attempt": step.attempt, "worker": step.worker},
    )


def written(one: Any, *, stands: bool, ago_seconds: float) -> None:
    """End the span of an attempt whose result was written, or refused because its claim is lost."""
    if one.span is tracing.NOTHING:
        return
    error = "" if stands else "claim_lost"
    outcome = "succeeded" if stands else "refused"
    one.span.end({"step.outcome": outcome}, error=error, ago_seconds=ago_seconds)


def lost(row: Any, *, outcome: str, code: str) -> None:
    """Leave the span of an attempt whose worker cannot tell of it any more."""
    if not tracing.is_on() or not row.traceparent:
        return
    tracing.begin(
        f"{'plan' if row.kind == 'map' else 'step'} {row.key}",
        parent=row.traceparent,
        words=_of_step(row) | {"step.attempt": row.attempt, "worker": row.worker},
        ago_seconds=row.ran_seconds,
    ).end({"step.outcome": outcome}, error=code)


def requeued(letter: Any) -> None:
    """Leave the span of a requeue in the trace of its run, linked to who asked for it."""
    if not tracing.is_on() or not letter.traceparent:
        return
    asked_by = tracing.current.get()
    words = {
        "run.id": str(letter.run_id),
        "run.automation": letter.automation,
        "run.department": letter.department,
        "step.id": letter.step_run_id,
        "step.key": letter.step,
        "dead_letter.id": letter.id,
    }
    tracing.begin(
        f"requeue {letter.step}",
        parent=letter.traceparent,
        words=words,
        links=[asked_by] if asked_by else [],
    ).end({})


def effect(name: str, *, parent: str) -> tracing.Span:
    """Begin the span of a call to the outside, below the attempt that makes it."""
    if not tracing.is_on() or not parent:
        return tracing.NOTHING
    return tracing.begin(
        f"effect {name}", kind="client", parent=parent, words={"effect.name": name}
    )


def _of_step(step: Any) -> dict[str, tracing.Value]:
    words: dict[str, tracing.Value] = {
        "run.id": str(step.run_id),
        "run.automation": step.automation,
        "run.department": step.department,
        "run.correlation_id": step.correlation_id,
        "step.id": step.id,
        "step.key": step.key,
    }
    if step.map_index != UNMAPPED:
        words["step.map_index"] = step.map_index
    return words


def _messaging(system: str, operation: str, destination: str) -> dict[str, tracing.Value]:
    """Return the attributes of messaging by OpenTelemetry's semantic conventions."""
    return {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "messaging.destination.name": destination,
    }
