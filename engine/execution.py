"""Run claimed StepRuns: claim, body, one completion transaction, publish. Knows no broker.

A step's own error never leaves this module: it becomes a retry or a dead letter. What does leave it
is the loss of the database, after patience.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from django.db import connection

from engine import definitions, leases, outcomes, ports, publishing, registry, runs, sql
from engine.context import RunningContext
from engine.errors import CancelledError, ClaimLostError, EffectUnknownError, StepError
from engine.heartbeat import Watch, heart
from engine.transitions import claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.graph import Graph, Node
    from engine.publishing import ReadyStep
    from engine.registry import StepDeclaration
    from engine.transitions.claims import Claimed

log = structlog.get_logger(__name__)


def execute(*, step_run_ids: Sequence[int], worker: str) -> int:
    """Try these StepRuns; return how many were claimed. Ids that are not claimable are no error."""
    claimed = 0
    for step_run_id in step_run_ids:
        # One claim a step: a lease that several steps shared would end with the first of them.
        for step in leases.claim(step_run_ids=[step_run_id], worker=worker):
            claimed += 1
            _run_in_context(step)
    return claimed


def _run_in_context(step: Claimed) -> None:
    with structlog.contextvars.bound_contextvars(
        run_id=str(step.run_id),
        step=step.key,
        step_run_id=step.id,
        attempt=step.attempt,
        correlation_id=step.correlation_id,
    ):
        publishing.publish(_run(step) or [])


def _run(step: Claimed) -> list[ReadyStep] | None:
    graph = definitions.graph(step.version_id)
    node = graph.by_key[step.key]
    declared = registry.steps.get(node.step)
    limits = registry.limits(kind=step.kind, step=node.step)
    retry = limits.retry
    if declared is None and step.kind != "map":
        error = StepError("step_unknown", f"This worker's code has no step {node.step!r}.")
        outcomes.fail(step, graph, retry, error)
        return None
    watch = Watch(
        step=step,
        limits=limits,
        on_timeout=lambda: outcomes.fail(step, graph, retry, outcomes.timeout(limits.timeout)),
        on_standstill=lambda: outcomes.fail(
            step, graph, retry, outcomes.no_progress(limits.progress_within or 0.0)
        ),
        on_hard_cancel=lambda: outcomes.cancel(step, "stopped after its grace"),
    )
    context = RunningContext(step, watch)
    heart.begin(watch)
    try:
        if step.kind == "map":
            return _plan(step, graph, node)
        assert declared is not None  # noqa: S101 - narrowed above; tells the type checker
        return _body(step, graph, node, declared, context)
    except CancelledError:
        heart.finish()
        context.close(CancelledError())
        outcomes.cancel(step, "stopped at a checkpoint")
    except (ClaimLostError, EffectUnknownError) as exc:
        heart.finish()
        _let_go(context, exc)
    except sql.CONNECTION_ERRORS as exc:
        heart.finish()
        lost = context.connection_lost or sql.is_connection_lost()
        _lose(context, exc)
        if lost:
            outcomes.hand_back(step, graph)
        else:
            outcomes.fail(step, graph, retry, exc)
    except Exception as exc:  # noqa: BLE001 - whatever a step raises is that step's failure
        heart.finish()
        context.close(exc)
        outcomes.fail(step, graph, retry, exc)
    except BaseException as exc:
        # The process is ending. Whoever finds the lost claim must not find an open transaction.
        heart.finish()
        context.close(exc)
        raise
    finally:
        heart.finish()
    return None


def _body(
    step: Claimed, graph: Graph, node: Node, declared: StepDeclaration, context: RunningContext
) -> list[ReadyStep]:
    arguments = ports.arguments(step, node, declared)
    with context.guarded_queries():
        result = declared.function(context, **arguments)
    value, ref = ports.stored(declared, result)
    # From here on the outcome is known: no timeout and no hard stop may come between.
    heart.finish()

    def complete() -> list[ReadyStep] | None:
        return claims.complete(
            step=step,
            value=value,
            ref=ref,
            artifacts=context.artifacts.saved,
            warnings=context.warnings,
            successors=graph.successors[node.key],
        )

    if context.writing:
        ready = complete()
        if ready is None:
            raise ClaimLostError
        context.close(None)
        return ready
    done: list[ReadyStep] | None = outcomes.persistently(step, complete)
    if done is None:
        raise ClaimLostError
    return done


def _plan(step: Claimed, graph: Graph, node: Node) -> list[ReadyStep]:
    """Turn a map's planner into its items (one transaction, the run held open meanwhile)."""
    items = ports.items(step, node)
    heart.finish()

    def expand() -> list[ReadyStep] | None:
        def insert() -> list[ReadyStep]:
            ready = claims.expand(
                step=step,
                queue=step.department,
                items=items,
                successors=graph.successors[node.key],
            )
            if ready is None:
                raise _NotExpandedError
            return ready

        try:
            return sql.patiently(insert)
        except _NotExpandedError:
            return None

    planned: list[ReadyStep] | None = outcomes.persistently(step, expand)
    if planned is None:
        if outcomes.persistently(step, lambda: claims.held(step=step) is None):
            raise ClaimLostError
        # The run may have been turned towards its end by somebody who has not asked its steps yet.
        runs.finish_ending(run_id=step.run_id)
        if outcomes.cancel(step, "the run is being ended"):
            return []
        raise ClaimLostError
    return planned


class _NotExpandedError(Exception):
    """Roll the expansion back: the claim is lost or the run is ending."""


def _let_go(context: RunningContext, error: BaseException) -> None:
    """Leave a step whose claim is somebody else's now, or given back until an operator answers.

    What this attempt did in the database is rolled back or was never written.
    """
    context.close(error)
    if isinstance(error, ClaimLostError):
        log.warning("late_write_refused")
    else:
        log.warning("step_awaiting", reason="effect_unknown")


def _lose(context: RunningContext, error: BaseException) -> None:
    try:
        context.close(error)
    except sql.CONNECTION_ERRORS:
        connection.close()
