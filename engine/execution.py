"""Run claimed StepRuns: claim, body, one completion transaction, publish. Knows no broker.

A step's own error never leaves this module: it becomes a retry or a dead letter. What does leave it
is the loss of the database, after patience.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from engine import artifacts, definitions, leases, publishing, registry, runs, sql
from engine.context import RunningContext
from engine.errors import CancelledError, ClaimLostError, EngineError, NotFoundError, StepError
from engine.graph import UNMAPPED
from engine.heartbeat import Watch, heart
from engine.policies import DEFAULT_TIMEOUT_SECONDS, MAX_CRASHES, OnDead, Retry, crash_delay
from engine.transitions import claims, failures
from engine.values import follow, holds_nul, loaded, storable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.graph import Binding, Graph, Node
    from engine.publishing import ReadyStep
    from engine.registry import StepDeclaration
    from engine.transitions.claims import Claimed

INPUTS = """
SELECT s.key, s.map_index, s.kind, o.value, o.ref
FROM engine_steprun s JOIN engine_stepoutput o ON o.step_run_id = s.id
WHERE s.run_id = %(run)s AND s.key = ANY(%(keys)s)
UNION ALL
SELECT NULL, 0, NULL, value, NULL FROM engine_stepinput WHERE step_run_id = %(id)s
ORDER BY 2
"""
#: A worker with older code may receive a step that only newer code has; deploys take a while.
UNKNOWN_STEP = Retry(attempts=8, first_delay=2.0, factor=2.0, max_delay=60.0)
#: Planning a map: only the database can make it fail.
PLANNING = Retry(attempts=5, first_delay=1.0)
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.1, 5.0
#: What the columns of an error hold, in characters.
MAX_CODE, MAX_MESSAGE = 100, 2000
#: Items a map may have; beyond it a list is better processed in parts.
MAX_ITEMS = 100_000

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
    if step.kind == "map":
        retry, timeout = PLANNING, DEFAULT_TIMEOUT_SECONDS
    elif declared is None:
        error = StepError("step_unknown", f"This worker's code has no step {node.step!r}.")
        _fail(step, graph, UNKNOWN_STEP, error)
        return None
    else:
        retry, timeout = declared.retry, declared.timeout
    watch = Watch(
        step=step,
        timeout_seconds=timeout,
        on_timeout=lambda: _fail(
            step, graph, retry, StepError("timeout", f"The step ran longer than {timeout:g} s.")
        ),
        on_hard_cancel=lambda: _cancelled(step, "stopped after its grace"),
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
        _cancelled(step, "stopped at a checkpoint")
    except ClaimLostError as exc:
        # Somebody else has this step now; what this attempt did is rolled back or never written.
        heart.finish()
        context.close(exc)
        log.warning("late_write_refused")
    except sql.CONNECTION_ERRORS as exc:
        heart.finish()
        lost = context.connection_lost or sql.is_connection_lost()
        _lose(context, exc)
        if lost:
            _hand_back(step, graph)
        else:
            _fail(step, graph, retry, exc)
    except Exception as exc:  # noqa: BLE001 - whatever a step raises is that step's failure
        heart.finish()
        context.close(exc)
        _fail(step, graph, retry, exc)
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
    arguments = _arguments(step, node, declared)
    with context.guarded_queries():
        result = declared.function(context, **arguments)
    value, ref = _stored(declared, result)
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
    done: list[ReadyStep] | None = _persistently(step, complete)
    if done is None:
        raise ClaimLostError
    return done


def _items(step: Claimed, node: Node) -> list[dict[str, Any]]:
    """Zip the lists a node is mapped over into one {parameter: value} per item."""
    outputs, _ = _outputs(step, node)
    lists = {name: _value(binding, step, outputs) for name, binding in node.over.items()}
    for name, items in lists.items():
        if not isinstance(items, list):
            message = f"{node.key}: {name} is mapped over something that is not a list."
            raise StepError("map_over_no_list", message, permanent=True)
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        message = f"{node.key}: the lists to map over differ in length: {lengths}."
        raise StepError("map_lengths_differ", message, permanent=True)
    size = next(iter(lengths.values()))
    if size > MAX_ITEMS:
        message = f"{node.key}: {size} items; a map takes at most {MAX_ITEMS}."
        raise StepError("map_too_wide", message, permanent=True)
    return [{name: values[n] for name, values in lists.items()} for n in range(size)]


def _plan(step: Claimed, graph: Graph, node: Node) -> list[ReadyStep]:
    """Turn a map's planner into its items (one transaction, the run held open meanwhile)."""
    items = _items(step, node)
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

    planned: list[ReadyStep] | None = _persistently(step, expand)
    if planned is None:
        # The run may have been turned towards its end by somebody who has not asked its steps yet.
        runs.finish_ending(run_id=step.run_id)
        if _cancelled(step, "the run is being ended"):
            return []
        raise ClaimLostError
    return planned


class _NotExpandedError(Exception):
    """Roll the expansion back: the claim is lost or the run is ending."""


def _arguments(step: Claimed, node: Node, declared: StepDeclaration) -> dict[str, Any]:
    outputs, item = _outputs(step, node)
    plain = {name: _value(binding, step, outputs) for name, binding in node.args.items()}
    plain.update(item)
    arguments = {}
    for name, value in plain.items():
        try:
            # Models were stored by their fields' names, whatever their aliases outside.
            arguments[name] = declared.adapters[name].validate_python(value, by_name=True)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join([name, *map(str, first["loc"])])
            raise StepError(
                "argument_invalid", f"{node.key}: {where}: {first['msg']}", permanent=True
            ) from exc
    return arguments


def _outputs(step: Claimed, node: Node) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the outputs it takes by key (lists for mapped parents) and the item of a map.

    A planner takes the lists to map over, an item only what is the same for all: were it to read
    the lists as well, a map of n items would read n times n of them.
    """
    taken = node.over if step.kind == "map" else node.args
    keys = list(dict.fromkeys(b.key for b in taken.values() if b.source == "node"))
    if not keys and step.map_index == UNMAPPED:
        return {}, {}
    found = sql.rows(INPUTS, {"run": step.run_id, "keys": keys, "id": step.id})
    graph = definitions.graph(step.version_id)
    outputs: dict[str, Any] = {key: [] if graph.by_key[key].mapped else None for key in keys}
    item: dict[str, Any] = {}
    for row in found:
        value = loaded(value=sql.parsed(row.value), ref=sql.parsed(row.ref), read=_read)
        if row.key is None:
            item = value
        elif row.map_index != UNMAPPED:
            outputs[row.key].append(value)
        elif row.kind == "step":
            outputs[row.key] = value
    return outputs, item


def _value(binding: Binding, step: Claimed, outputs: dict[str, Any]) -> Any:
    if binding.source == "const":
        return binding.value
    start = step.input if binding.source == "input" else outputs[binding.key]
    return follow(start, binding.path)


def _stored(declared: StepDeclaration, result: Any) -> tuple[Any, dict[str, Any] | None]:
    """Return the result as JSON value, or as the reference of its content when it is large."""
    try:
        checked = declared.result_adapter.validate_python(result)
        encoded = declared.result_adapter.dump_json(checked)
    except (ValidationError, PydanticSerializationError) as exc:
        raise StepError(
            "result_invalid",
            f"{declared.name} returned something that does not fit its return annotation.",
            permanent=True,
        ) from exc
    if b"null" in encoded:
        _refuse_infinite(declared, checked)
    if holds_nul(encoded.decode()):
        raise StepError(
            "result_invalid", f"{declared.name} returned a NUL character.", permanent=True
        )
    if len(encoded) <= settings.INLINE_VALUE_BYTES:
        return json.loads(encoded), None
    ref = artifacts.put(
        name=f"{declared.name}.json", content=encoded, media_type="application/json"
    )
    return None, ref.model_dump()


def _refuse_infinite(declared: StepDeclaration, checked: Any) -> None:
    """Refuse a result with a number that JSON does not have: it would silently become null."""
    try:
        json.dumps(declared.result_adapter.dump_python(checked, mode="json"), allow_nan=False)
    except ValueError as exc:
        raise StepError(
            "result_invalid",
            f"{declared.name} returned a number that is not finite.",
            permanent=True,
        ) from exc


def _read(sha256: str) -> bytes:
    try:
        with artifacts.open_content(sha256=sha256) as file:
            return file.read()
    except NotFoundError as exc:
        raise StepError("artifact_gone", exc.message, permanent=True) from exc


def _fail(step: Claimed, graph: Graph, retry: Retry, error: BaseException) -> None:
    """Record a failure: backoff while attempts are left, else a dead letter."""
    code, message, permanent = _described(error)
    if permanent or step.failures + 1 >= retry.attempts:
        fail_run = graph.on_dead == OnDead.FAIL
        _until_recorded(
            step,
            lambda: failures.bury(
                step_run_id=step.id, claim=step.claim, code=code, message=message, fail_run=fail_run
            ),
        )
        log.error("step_dead", code=code)
        if fail_run:
            runs.finish_ending(run_id=step.run_id)
        return
    delay = retry.delay(failures=step.failures + 1, random=random.SystemRandom())
    _until_recorded(
        step,
        lambda: failures.retry(
            step_run_id=step.id, claim=step.claim, code=code, message=message, delay_seconds=delay
        ),
    )
    log.warning("step_retried", code=code, delay_seconds=round(delay, 2))


def _described(error: BaseException) -> tuple[str, str, bool]:
    """Return code, safe message and whether a retry is pointless.

    Only what a StepError says is stored; of any other exception its class, never its text, which
    may hold secrets or payloads. The text goes to the log, where access is an operator's.
    """
    if isinstance(error, StepError):
        return (
            storable(error.code)[:MAX_CODE],
            storable(error.message)[:MAX_MESSAGE],
            error.permanent,
        )
    if isinstance(error, EngineError):
        return error.code, storable(error.message)[:MAX_MESSAGE], True
    log.error("step_failed", exc_info=error)
    return "unexpected_error", f"The step raised {type(error).__name__}.", False


def _until_recorded(step: Claimed, record: Callable[[], bool]) -> None:
    """Write a failure; when a cancel came first, the step ends as cancelled instead."""

    def write() -> bool:
        with transaction.atomic():
            return record()

    if not _persistently(step, write):
        _cancelled(step, "failed while being cancelled")


def _cancelled(step: Claimed, reason: str) -> bool:
    ended = _persistently(
        step, lambda: failures.cancel(step_run_id=step.id, claim=step.claim, reason=reason)
    )
    if ended:
        runs.finish_ending(run_id=step.run_id)
    return bool(ended)


def _hand_back(step: Claimed, graph: Graph) -> None:
    """Give a step back whose database went away under it: no attempt of its own is lost.

    Counted like a lost worker, so that a step which itself makes the server drop the connection
    cannot go round for ever.
    """
    code, message = "database_lost", "The database went away while the step ran."
    if step.crashes + 1 >= MAX_CRASHES:
        fail_run = graph.on_dead == OnDead.FAIL
        _until_recorded(
            step,
            lambda: failures.bury(
                step_run_id=step.id,
                claim=step.claim,
                code=code,
                message=message,
                fail_run=fail_run,
                failures=0,
                crashes=1,
            ),
        )
        return
    _until_recorded(
        step,
        lambda: failures.retry(
            step_run_id=step.id,
            claim=step.claim,
            code=code,
            message=message,
            delay_seconds=crash_delay(crashes=step.crashes + 1),
            failures=0,
            crashes=1,
        ),
    )


def _lose(context: RunningContext, error: BaseException) -> None:
    try:
        context.close(error)
    except sql.CONNECTION_ERRORS:
        connection.close()


def _persistently(step: Claimed, write: Callable[[], Any]) -> Any:
    """Write an outcome although the database may be restarting (crash points 12 and 18).

    An answer lost on the way is asked for afterwards: this very claim may have committed. After
    COMMIT_PATIENCE_SECONDS the lease mechanism takes over and the error leaves.
    """
    give_up = time.monotonic() + settings.COMMIT_PATIENCE_SECONDS
    wait = FIRST_WAIT_SECONDS
    unsure = False
    while True:
        try:
            if unsure and claims.succeeded_before(step=step):
                return []
            return write()
        except sql.LOCK_ERRORS:
            if time.monotonic() > give_up:
                raise
        except sql.CONNECTION_ERRORS:
            if time.monotonic() > give_up:
                raise
            connection.close()
            unsure = True
            log.warning("database_away", retry_in_seconds=wait)
            time.sleep(wait)
            wait = min(wait * 2, MAX_WAIT_SECONDS)
