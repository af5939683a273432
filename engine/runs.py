"""What can be asked of a run: submit, cancel, pause, resume. The only doors in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import structlog
import uuid_utils.compat as uuids
from django.conf import settings
from django.db import transaction
from pydantic import ValidationError

from engine import definitions, lanes, publishing, registry, spans, sql, trace_context
from engine.audit import trail
from engine.causes import ReleaseReason
from engine.errors import InputInvalidError, NotFoundError, StateConflictError
from engine.models import Run
from engine.states import RunState
from engine.transitions import dispatch
from engine.transitions import runs as moves
from engine.values import holds_nul, is_storable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from engine import tracing
    from engine.publishing import ReadyStep
    from engine.registry import AutomationDeclaration

ORCHESTRATOR_QUEUE = "orchestrator"
MAX_KEY_CHARACTERS, MAX_CORRELATION_CHARACTERS = 255, 100
#: How business keys begin that schedules, hooks and the stream make; they can be told beforehand.
RESERVED_KEYS = ("schedule:", "hook:", "event:", "stream:")
#: Smallest and largest priority: a smallint leaves room for finer steps later.
PRIORITIES = range(-100, 101)
#: Longest time for which a business key may be held, seconds: ten years.
MAX_WINDOW_SECONDS = 315_360_000
#: How often a submission meets a version or a key that has gone on meanwhile.
TRIES = 4
#: Years Python can show again in any time zone; PostgreSQL would store far more.
DEADLINE_YEARS = range(1970, 9999)

ENDING = """
SELECT id FROM engine_run WHERE state = 'cancelling' ORDER BY id LIMIT %(limit)s
"""
OVERDUE = """
SELECT id FROM engine_run
WHERE state IN ('pending', 'running', 'paused', 'blocked') AND deadline_at < clock_timestamp()
LIMIT %(limit)s
"""

log = structlog.get_logger(__name__)
#: (database, automation, checksum) -> id of the stored version: rows that never change.
_versions: dict[tuple[Any, str, str], int] = {}


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission; `created` is False when the business key was used before."""

    run_id: UUID
    created: bool


def submit(
    *,
    automation: str,
    input: dict[str, Any],  # noqa: A002 - the field's word
    trigger: str,
    created_by: str = "",
    dedupe_key: str | None = None,
    window: float | None = None,
    until_terminal: bool = False,
    correlation_id: str = "",
    traceparent: str = "",
    priority: int = 0,
    tags: Sequence[str] = (),
    deadline_at: datetime | None = None,
) -> Submitted:
    """Accept a run: the row, its whole static plan and the event, durable when this returns.

    Inside a transaction of the caller's: durable, and told to workers, when that commits. The same
    `dedupe_key` for the same automation returns the run that exists; with `window` only one that is
    younger than these seconds, with `until_terminal` only one that has not ended. A `traceparent`
    that is none is ignored, as its standard asks. Raises UnknownAutomationError, or
    InputInvalidError naming each field at fault; nothing is stored then.
    """
    declared = registry.automation(automation)
    plain = validated_input(declared=declared, given=input)
    _check_words(
        dedupe_key=dedupe_key,
        window=window,
        until_terminal=until_terminal,
        correlation_id=correlation_id,
        priority=priority,
        tags=tags,
        deadline_at=deadline_at,
    )
    run_id = uuids.uuid7()
    values: dict[str, Any] = {
        "id": run_id,
        "automation": declared.name,
        "department": declared.department,
        "input": sql.jsonb(plain),
        "dedupe_key": dedupe_key or None,
        "correlation_id": correlation_id,
        "traceparent": trace_context.parse(traceparent),
        "priority": priority,
        "tags": sql.jsonb(list(tags)),
        "trigger": trigger,
        "created_by": created_by,
        "deadline_at": deadline_at,
    }
    with spans.submission(
        automation=declared.name,
        department=declared.department,
        run_id=run_id,
        parent=values["traceparent"],
    ) as span:
        values["traceparent"] = span.traceparent or values["traceparent"]
        submitted = _stored(declared, values, span, window=window, until_terminal=until_terminal)
        span.note({"run.id": str(submitted.run_id), "run.created": submitted.created})
        return submitted


def _stored(
    declared: AutomationDeclaration,
    values: dict[str, Any],
    span: tracing.Span,
    *,
    window: float | None,
    until_terminal: bool,
) -> Submitted:
    """Store a run with its plan, or find the one that has its key."""
    dedupe_key = values["dedupe_key"]
    # The version this process remembers may be gone: it is looked up anew. A key that its run need
    # not keep is taken from it; who comes second there meets the run that came first.
    for _ in range(TRIES):
        with spans.planning(span, automation=declared.name):
            ready = moves.submit(values=values | _plan(declared))
        if ready is not None:
            # At once, unless the caller's transaction is open: a message that is faster than the
            # commit finds nothing to claim.
            transaction.on_commit(partial(_tell, ready, span.traceparent))
            return Submitted(values["id"], created=True)
        if _may_take(declared.name, dedupe_key, window=window, until_terminal=until_terminal):
            continue
        existing = _of_key(declared.name, dedupe_key)
        if existing is not None:
            return Submitted(existing.id, created=False)
        _forget_versions()
    raise StateConflictError("The version or the key", wanted="start it", actual="being replaced")


def _tell(ready: Sequence[ReadyStep], traceparent: str) -> None:
    """Hand the roots of a new run to the broker."""
    with spans.sending(ready, parent=traceparent):
        publishing.publish(ready)


def validated_input(*, declared: AutomationDeclaration, given: Any) -> dict[str, Any]:
    """Return the input as the model's JSON; InputInvalidError names every field at fault."""
    if not isinstance(given, dict):
        problems = [{"field": "", "reason": "must be an object"}]
        raise InputInvalidError("The input must be a JSON object.", problems=problems)
    unknown = sorted(set(map(str, given)) - input_fields(declared))
    problems = [
        {
            "field": name,
            "reason": f"unknown; {declared.name} takes {sorted(input_fields(declared))}",
        }
        for name in unknown
    ]
    plain: dict[str, Any] = {}
    try:
        plain = declared.input.model_validate(given).model_dump(mode="json")
    except ValidationError as exc:
        problems += [
            {"field": ".".join(map(str, error["loc"])), "reason": error["msg"]}
            for error in exc.errors(include_url=False, include_context=False)
        ]
    except (RecursionError, ValueError):
        # What pydantic raises beyond its depth is a plain ValueError.
        problems.append({"field": "", "reason": "nested too deeply, or not JSON"})
    if problems:
        text = "; ".join(f"{p['field'] or 'input'}: {p['reason']}" for p in problems)
        raise InputInvalidError(f"{declared.name}: {text}", problems=problems)
    # What was given as well: on its way through the model a NaN would silently become null.
    reason = _unstorable(plain) or (_unstorable(given) if given != plain else "")
    if reason:
        raise InputInvalidError(f"input: {reason}", problems=[{"field": "", "reason": reason}])
    return plain


def _unstorable(plain: dict[str, Any]) -> str:
    try:
        encoded = json.dumps(plain, allow_nan=False, ensure_ascii=False, default=str)
    except ValueError:
        return "contains a number that is not finite"
    except RecursionError:
        return "nested too deeply"
    if not is_storable(encoded) or holds_nul(encoded):
        return "contains a NUL character or half a surrogate pair, which cannot be stored"
    if len(encoded.encode()) > settings.INLINE_VALUE_BYTES:
        return f"larger than {settings.INLINE_VALUE_BYTES} bytes; pass large values as files"
    return ""


def cancel(*, run_id: UUID, actor: str) -> None:
    """End a run: nothing of it is claimed from now on; what runs is asked to stop, then made to.

    Cancelling a run that is already on its way to `cancelled` changes nothing.
    """

    def turn() -> str:
        before = _held(run_id)
        if moves.begin_ending(run_id=run_id, ending=RunState.CANCELLED, code="cancelled"):
            moves.note(run_id=run_id, kind="run.cancel_requested", actor=actor)
            _record("run.cancel", run_id, actor, before=before, after=RunState.CANCELLING)
            return ""
        return before

    actual = sql.patiently(turn)
    if not actual:
        _finish(run_id)
    elif actual != RunState.CANCELLING:
        raise StateConflictError("The run", wanted="cancel it", actual=actual)


def pause(*, run_id: UUID, actor: str) -> None:
    """Hold a run: what runs goes on to its end, nothing new begins until `resume`."""
    with transaction.atomic():
        before = _held(run_id)
        if not moves.pause(run_id=run_id):
            raise StateConflictError("The run", wanted="pause it", actual=before)
        _record("run.pause", run_id, actor, before=before, after=RunState.PAUSED)
    sql.patiently(
        lambda: dispatch.hand_back_of_run(
            run_id=run_id, reason=ReleaseReason.RUN_PAUSED, actor=actor
        )
    )
    moves.note(run_id=run_id, kind="run.paused", actor=actor)


def resume(*, run_id: UUID, actor: str) -> None:
    """Let a paused run go on; the dispatcher sends what is ready."""

    def turn() -> None:
        before = _held(run_id)
        if not moves.resume(run_id=run_id):
            raise StateConflictError("The run", wanted="resume it", actual=before)
        moves.note(run_id=run_id, kind="run.resumed", actor=actor)
        _record("run.resume", run_id, actor, before=before, after=_state(run_id))

    sql.patiently(turn)


def finish_cancelling(*, limit: int) -> int:
    """Bring ending runs to their end: sweep again after a crash, end those nobody works on."""
    return sum(_guarded(row.id) for row in sql.rows(ENDING, {"limit": limit}))


def finish_ending(*, run_id: UUID) -> bool:
    """Bring one ending run on: ask its steps to stop, end it when none is open any more."""
    return _guarded(run_id)


def expire_deadlines(*, limit: int) -> int:
    """Begin to end the runs whose deadline has passed."""
    ended = 0
    for row in sql.rows(OVERDUE, {"limit": limit}):
        message = "The run's deadline has passed."
        if moves.begin_ending(
            run_id=row.id, ending=RunState.TIMED_OUT, code="deadline_passed", message=message
        ):
            ended += 1
            _guarded(row.id)
    return ended


def _guarded(run_id: UUID) -> bool:
    try:
        return _finish(run_id)
    except sql.CONNECTION_ERRORS:
        raise
    except Exception:
        log.exception("run_cannot_be_ended", run_id=str(run_id))
        return False


def _finish(run_id: UUID) -> bool:
    sql.patiently(lambda: moves.sweep(run_id=run_id))
    return moves.end(run_id=run_id)


def _record(action: str, run_id: UUID, actor: str, *, before: str, after: str) -> None:
    was, now = {"state": before}, {"state": str(after)}
    trail.record(action, kind="run", id=run_id, actor=actor, before=was, after=now)


def _held(run_id: UUID) -> str:
    """Return the run's state, held until the transaction ends."""
    found = sql.rows(moves.LOCK, {"run": run_id})
    if not found:
        raise NotFoundError(f"There is no run {run_id}")
    return str(found[0].state)


def _state(run_id: UUID) -> str:
    found = Run.objects.filter(pk=run_id).values_list("state", flat=True).first()
    if found is None:
        raise NotFoundError(f"There is no run {run_id}")
    return found


def _plan(declared: AutomationDeclaration) -> dict[str, Any]:
    """Return the static plan as the arrays that `SUBMIT` unnests, and the version it is of."""
    plan, roots = _static_plan(_version(declared), declared.department)
    return plan | {
        "checksum": declared.checksum,
        "backed_up": sql.array(publishing.backed_up(roots)),
    }


@lru_cache(maxsize=definitions.KEPT_GRAPHS)
def _static_plan(version: int, department: str) -> tuple[dict[str, Any], set[str]]:
    """Return what is the same for every run of a version, and the queues its roots go to."""
    graph = definitions.graph(version)
    # Sinks first: ids fall along the graph, which is the order in which rows are locked.
    nodes = list(reversed(graph.topological))
    queues = [ORCHESTRATOR_QUEUE if node.mapped else department for node in nodes]
    roots = {queue for node, queue in zip(nodes, queues, strict=True) if not node.parents}
    plan = {
        "version": version,
        "sinks": len(graph.sinks),
        "keys": sql.array(node.key for node in nodes),
        "kinds": sql.array("map" if node.mapped else "step" for node in nodes),
        "queues": sql.array(queues),
        "pendings": sql.array(len(node.parents) for node in nodes),
    }
    return plan, roots


def _may_take(
    automation: str, dedupe_key: str | None, *, window: float | None, until_terminal: bool
) -> bool:
    """Take the key from a run that the request does not count any more."""
    if not dedupe_key or (window is None and not until_terminal):
        return False
    return moves.release_key(
        automation=automation, key=dedupe_key, window=window, until_terminal=until_terminal
    )


def _of_key(automation: str, dedupe_key: str | None) -> Run | None:
    if not dedupe_key:
        return None
    return Run.objects.only("id").filter(automation=automation, dedupe_key=dedupe_key).first()


def _version(declared: AutomationDeclaration) -> int:
    """Return the id of the stored version of this code, remembered per process."""
    key = (settings.DATABASES["default"]["NAME"], declared.name, declared.checksum)
    if key not in _versions:
        # Also before the first `sync_catalog`: a run in a department without a lane would wait
        # for a dispatcher that never looks there.
        lanes.declare(slug=declared.department, queue=declared.department)
        found: int = definitions.ensure_version(declared).pk
        # Not before it is there for good: the caller's transaction may be rolled back.
        transaction.on_commit(lambda: _versions.__setitem__(key, found))
        return found
    return _versions[key]


def _forget_versions() -> None:
    """Drop what is remembered: the database was restored or emptied under this process."""
    _versions.clear()
    definitions.graph.cache_clear()
    _static_plan.cache_clear()


def input_fields(declared: AutomationDeclaration) -> set[str]:
    """Return the names of the fields an automation takes."""
    fields = declared.input.model_fields
    return {field.alias or name for name, field in fields.items()}


def _key_problems(
    dedupe_key: str | None, *, window: float | None, until_terminal: bool
) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    if dedupe_key and (len(dedupe_key) > MAX_KEY_CHARACTERS or not is_storable(dedupe_key)):
        problems.append(("dedupe_key", f"at most {MAX_KEY_CHARACTERS} characters of valid text"))
    if window is not None and not 0 < window <= MAX_WINDOW_SECONDS:
        problems.append(("window", f"above 0, at most {MAX_WINDOW_SECONDS} seconds"))
    if window is not None and until_terminal:
        problems.append(("window", "not together with `until_terminal`"))
    if (dedupe_key or "").startswith(RESERVED_KEYS) and (window is not None or until_terminal):
        problems.append(("dedupe_key", "the engine's own keys are for good"))
    if not dedupe_key and (window is not None or until_terminal):
        problems.append(("dedupe_key", "needed for `window` and `until_terminal`"))
    return problems


def _check_words(
    *,
    dedupe_key: str | None,
    window: float | None,
    until_terminal: bool,
    correlation_id: str,
    priority: int,
    tags: Sequence[str],
    deadline_at: datetime | None,
) -> None:
    problems = _key_problems(dedupe_key, window=window, until_terminal=until_terminal)
    if len(correlation_id) > MAX_CORRELATION_CHARACTERS or not is_storable(correlation_id):
        reason = f"at most {MAX_CORRELATION_CHARACTERS} characters of valid text"
        problems.append(("correlation_id", reason))
    if priority not in PRIORITIES:
        problems.append(("priority", f"between {PRIORITIES[0]} and {PRIORITIES[-1]}"))
    if any(not isinstance(tag, str) or not is_storable(tag) for tag in tags):
        problems.append(("tags", "a list of texts"))
    if deadline_at is not None and (
        deadline_at.tzinfo is None or deadline_at.year not in DEADLINE_YEARS
    ):
        reason = f"with a time zone, between {DEADLINE_YEARS[0]} and {DEADLINE_YEARS[-1]}"
        problems.append(("deadline_at", reason))
    if problems:
        raise InputInvalidError(
            "; ".join(f"{field}: {reason}" for field, reason in problems),
            problems=[{"field": field, "reason": reason} for field, reason in problems],
        )
