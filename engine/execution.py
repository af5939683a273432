"""Run StepRuns: claim, bodies, completion, and what that readies. Knows no broker.

A step's own error never leaves this module: it becomes a retry or a dead letter. What does leave it
is the loss of the database, after patience.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, TypedDict

import structlog
from django.db import connection

from engine import (
    definitions,
    durations,
    leases,
    metrics,
    outcomes,
    ports,
    publishing,
    registry,
    runs,
    spans,
    sql,
    tracing,
)
from engine.batches import Batch
from engine.context import RunningContext
from engine.errors import CancelledError, ClaimLostError, EffectUnknownError, StepError
from engine.heartbeat import Watch, heart
from engine.transitions import claims, completions
from engine.transitions.completions import Finished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from engine.publishing import ReadyStep
    from engine.registry import StepDeclaration
    from engine.transitions.claims import Claimed

#: How long a process that ends itself may take to tell of the attempt it ends with, in seconds.
LAST_SPANS_SECONDS = 0.5

log = structlog.get_logger(__name__)


def execute(*, step_run_ids: Sequence[int], worker: str, queue: str = "") -> int:
    """Try these StepRuns; return how many were claimed. Ids that are not claimable are no error.

    queue: where they came from; successors of the same one are gone on with here, for a slice of
    time.
    """
    held = take(step_run_ids=step_run_ids, worker=worker, claim=uuid.uuid4())
    run(held, queue=queue)
    return len(held)


def take(
    *, step_run_ids: Sequence[int], worker: str, claim: UUID, again: bool = False
) -> list[Claimed]:
    """Claim what is claimable of these StepRuns under a token of the caller's.

    again: this was tried with the same token before, and what became of it is not known.
    """
    held = leases.claim(step_run_ids=step_run_ids, worker=worker, claim=claim)
    return claims.still_open(claim=claim, worker=worker) if again else held


def run(
    held: Sequence[Claimed], *, queue: str = "", parents: Mapping[str, str] = spans.NO_PARENTS
) -> None:
    """Run what this process holds under one claim, and what it goes on with, to the end.

    parents: by the traceparent of a run, what the spans of its attempts hang below.
    """
    if not held:
        return
    batch = Batch(held, queue=queue)
    while (step := batch.next()) is not None:
        with structlog.contextvars.bound_contextvars(**step.logged):
            _Attempt(step, batch, spans.attempt(step, parents)).run()


class _Circumstances(TypedDict):
    """How an attempt stands when it is given up: what `outcomes` asks for."""

    ran_seconds: float
    last: bool


class _Attempt:
    """One attempt of a held step, from its arguments to what is written of it."""

    def __init__(self, step: Claimed, batch: Batch, span: tracing.Span = tracing.NOTHING) -> None:
        self.step = step
        self.batch = batch
        self.span = span
        self.graph = definitions.graph(step.version_id)
        self.node = self.graph.by_key[step.key]
        self.limits = limits = registry.limits(kind=step.kind, step=self.node.step)
        self.watch = Watch(
            step=step,
            limits=limits,
            on_outlast=self._outlasts,
            on_timeout=lambda: self._fail_last(outcomes.timeout(limits.timeout)),
            on_standstill=lambda: self._fail_last(
                outcomes.no_progress(limits.progress_within or 0.0)
            ),
            on_hard_cancel=lambda: self._cancel_last("stopped after its grace"),
        )
        self.context = RunningContext(step, self.watch, batch, span)

    def run(self) -> None:
        """Run the step; whatever comes of it is written, or left to whoever has it now."""
        heart.begin(self.watch)
        try:
            self._work()
        except CancelledError:
            heart.finish()
            self.context.close(CancelledError())
            self._cancel("stopped at a checkpoint")
        except (ClaimLostError, EffectUnknownError) as exc:
            heart.finish()
            self._let_go(exc)
        except sql.CONNECTION_ERRORS as exc:
            heart.finish()
            self._lose(exc)
        except Exception as exc:  # noqa: BLE001 - whatever a step raises is that step's failure
            heart.finish()
            self.context.close(exc)
            self._fail(exc)
        except BaseException as exc:
            # The process is ending. Whoever finds the lost claim must not find an open transaction.
            heart.finish()
            self.context.close(exc)
            self.span.end({"step.outcome": "interrupted"}, error="process_ended")
            raise
        finally:
            heart.finish()

    def _work(self) -> None:
        declared = registry.steps.get(self.node.step)
        if self.step.kind == "map":
            self._plan()
        elif declared is None:
            raise StepError("step_unknown", f"This worker's code has no step {self.node.step!r}.")
        else:
            self._call(declared)

    def _call(self, declared: StepDeclaration) -> None:
        """Call the step's function and hand on what it returns."""
        arguments = ports.arguments(
            self.step, self.node, declared, known=self.batch.known(self.step)
        )
        with self.context.guarded_queries():
            result = declared.function(self.context, **arguments)
        value, ref = ports.stored(declared, result)
        # From here on the outcome is known: no timeout and no hard stop may come between.
        heart.finish()
        durations.note(step=self.node.step, seconds=self.watch.ran_seconds)
        finished = Finished(
            step=self.step,
            value=value,
            ref=ref,
            began=self.watch.began,
            ended=time.monotonic(),
            artifacts=self.context.artifacts.saved,
            warnings=self.context.warnings,
            successors=self.graph.successors[self.node.key],
            span=self.span,
        )
        if not self.context.writing:
            self.batch.finish(finished)
            return
        completion = self.batch.complete([finished])
        if not completion.done:
            raise ClaimLostError
        self.context.close(None)
        spans.written(finished, stands=True, ago_seconds=0.0)
        self.batch.accept(completion)
        metrics.steps_succeeded([finished])

    def _plan(self) -> None:
        """Turn a map's planner into its items (one transaction, the run held open meanwhile)."""
        step = self.step
        items = ports.items(step, self.node)
        heart.finish()

        def insert() -> list[ReadyStep]:
            ready = completions.expand(
                step=step,
                queue=step.department,
                items=items,
                successors=self.graph.successors[self.node.key],
                began=self.watch.began,
                open_ids=[one for one in self.batch.open_ids() if one != step.id],
            )
            if ready is None:
                raise _NotExpandedError
            return ready

        def expand() -> list[ReadyStep] | None:
            try:
                return sql.patiently(insert)
            except _NotExpandedError:
                return None

        def known() -> list[ReadyStep] | None:
            return [] if claims.succeeded_before(step_run_ids=[step.id], claim=step.claim) else None

        planned: list[ReadyStep] | None = outcomes.persistently(expand, known=known)
        if planned is not None:
            self.span.end({"step.outcome": "succeeded", "step.items": len(items)})
            publishing.publish(planned)
            return
        if outcomes.persistently(lambda: claims.held(step=step) is None):
            raise ClaimLostError
        # The run may have been turned towards its end by somebody who has not asked its steps yet.
        runs.finish_ending(run_id=step.run_id)
        if not self._cancel("the run is being ended"):
            raise ClaimLostError

    def _outlasts(self) -> bool:
        """Show the step, which takes longer than a result may wait; False to be asked again."""
        return self.batch.come_forward(ran_seconds=self.watch.ran_seconds, unless_locked=True)

    def _fail(self, error: BaseException) -> None:
        code, outcome = outcomes.fail(
            self.step, self.graph, self.limits.retry, error, **self._circumstances()
        )
        self.span.end({"step.outcome": outcome}, error=code)

    def _cancel(self, reason: str) -> bool:
        cancelled = outcomes.cancel(self.step, reason, **self._circumstances())
        if cancelled:
            self.span.end({"step.outcome": "cancelled"})
        return cancelled

    def _fail_last(self, error: BaseException) -> None:
        """Let the step fail from beside its body, before its process is ended."""
        self._fail(error)
        tracing.flush(LAST_SPANS_SECONDS)

    def _cancel_last(self, reason: str) -> None:
        """Cancel the step from beside its body, before its process is ended."""
        self._cancel(reason)
        tracing.flush(LAST_SPANS_SECONDS)

    def _circumstances(self) -> _Circumstances:
        others = [one for one in self.batch.open_ids() if one != self.step.id]
        return {"ran_seconds": self.watch.ran_seconds, "last": not others}

    def _let_go(self, error: BaseException) -> None:
        """Leave a step whose claim is somebody else's now, or given back until somebody answers.

        What this attempt did in the database is rolled back or was never written.
        """
        self.context.close(error)
        if isinstance(error, ClaimLostError):
            self.span.end({"step.outcome": "refused"}, error="claim_lost")
            log.warning("late_write_refused")
        else:
            self.span.end({"step.outcome": "awaiting"}, error="effect_unknown")
            log.warning("step_awaiting", reason="effect_unknown")

    def _lose(self, error: BaseException) -> None:
        """Give the step back when the connection broke under it; else it is the step's failure."""
        lost = self.context.connection_lost or sql.is_connection_lost()
        try:
            self.context.close(error)
        except sql.CONNECTION_ERRORS:
            connection.close()
        if lost:
            outcomes.hand_back(self.step, self.graph, **self._circumstances())
            self.span.end({"step.outcome": "handed_back"}, error="database_lost")
            self.batch.rejoin()
        else:
            self._fail(error)


class _NotExpandedError(Exception):
    """Roll the expansion back: the claim is lost or the run is ending."""
