"""Write down how a held step ended, whatever becomes of the database meanwhile."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import connection, transaction

from engine import definitions, metrics, runs, sql
from engine.errors import EngineError, StepError
from engine.policies import MAX_CRASHES, OnDead, Retry, crash_delay
from engine.transitions import claims, failures
from engine.values import storable

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.graph import Graph
    from engine.transitions.claims import Claimed

#: Pauses between tries: when the database is back, results must not wait for long any more.
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.1, 1.0
#: What the columns of an error hold, in characters.
MAX_CODE, MAX_MESSAGE = 100, 2000

log = structlog.get_logger(__name__)


def fail(
    step: Claimed,
    graph: Graph,
    retry: Retry,
    error: BaseException,
    *,
    ran_seconds: float,
    last: bool,
) -> tuple[str, str]:
    """Record a failure after `ran_seconds`: backoff while attempts are left, else a dead letter.

    last: its holder has nothing else under the claim. Returns its code and what came of it: dead,
    retried, or refused when it does not stand.
    """
    code, message, permanent = _described(error)
    if permanent or step.failures + 1 >= retry.attempts:
        fail_run = graph.on_dead == OnDead.FAIL
        recorded = _until_recorded(
            step,
            lambda: failures.bury(
                step_run_id=step.id,
                claim=step.claim,
                code=code,
                message=message,
                fail_run=fail_run,
                last=last,
            ),
            ran_seconds=ran_seconds,
            last=last,
        )
        if recorded:
            _count(step, graph, metrics.DEAD, ran_seconds)
            log.error("step_dead", code=code)
            if fail_run:
                runs.finish_ending(run_id=step.run_id)
        return code, "dead" if recorded else "refused"
    delay = retry.delay(failures=step.failures + 1, random=random.SystemRandom())
    recorded = _until_recorded(
        step,
        lambda: failures.retry(
            step_run_id=step.id,
            claim=step.claim,
            code=code,
            message=message,
            delay_seconds=delay,
            last=last,
        ),
        ran_seconds=ran_seconds,
        last=last,
    )
    if recorded:
        _count(step, graph, metrics.RETRIED, ran_seconds)
        log.warning("step_retried", code=code, delay_seconds=round(delay, 2))
    return code, "retried" if recorded else "refused"


def timeout(seconds: float) -> StepError:
    """Return the failure of a step that took longer than it may."""
    return StepError("timeout", f"The step ran longer than {round(seconds, 1):g} s.")


def no_progress(seconds: float) -> StepError:
    """Return the failure of a step that hung."""
    return StepError("no_progress", f"The step gave no sign of progress for {seconds:g} s.")


def _described(error: BaseException) -> tuple[str, str, bool]:
    """Return code, safe message and whether a retry is pointless.

    Only what a StepError says is stored; of any other exception its class, never its text, which
    may hold secrets or payloads. The log has its places.
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


def _until_recorded(
    step: Claimed, record: Callable[[], bool], *, ran_seconds: float, last: bool
) -> bool:
    """Write a failure; when a cancel came first, the step ends as cancelled instead.

    Returns whether the failure stands; not when its answer was lost, the manager goes on then.
    """

    def write() -> bool:
        with transaction.atomic():
            claims.show(step=step, ran_seconds=ran_seconds)
            if not record():
                transaction.set_rollback(True)
                return False
            return True

    if persistently(write):
        return True
    if cancel(step, "failed while being cancelled", ran_seconds=ran_seconds, last=last):
        return False
    # Either this very claim had committed its result, or somebody else has the step now.
    if not persistently(lambda: claims.succeeded_before(step_run_ids=[step.id], claim=step.claim)):
        log.warning("late_write_refused")
    return False


def cancel(step: Claimed, reason: str, *, ran_seconds: float, last: bool) -> bool:
    """End a held step of which a cancel is wanted; False when none is wanted or it is not held."""

    def write() -> bool:
        with transaction.atomic():
            claims.show(step=step, ran_seconds=ran_seconds)
            if not failures.cancel(step_run_id=step.id, claim=step.claim, reason=reason, last=last):
                transaction.set_rollback(True)
                return False
            return True

    ended = persistently(write)
    if ended:
        _count(step, definitions.graph(step.version_id), metrics.CANCELLED, ran_seconds)
        runs.finish_ending(run_id=step.run_id)
    return bool(ended)


def hand_back(step: Claimed, graph: Graph, *, ran_seconds: float, last: bool) -> None:
    """Give a step back whose database went away under it: no attempt of its own is lost.

    Counted like a lost worker, so that a step which itself makes the server drop the connection
    cannot go round for ever.
    """
    code, message = "database_lost", "The database went away while the step ran."
    if step.crashes + 1 >= MAX_CRASHES:
        fail_run = graph.on_dead == OnDead.FAIL
        recorded = _until_recorded(
            step,
            lambda: failures.bury(
                step_run_id=step.id,
                claim=step.claim,
                code=code,
                message=message,
                fail_run=fail_run,
                failures=0,
                crashes=1,
                last=last,
            ),
            ran_seconds=ran_seconds,
            last=last,
        )
        if recorded:
            _count(step, graph, metrics.DEAD, ran_seconds)
        return
    recorded = _until_recorded(
        step,
        lambda: failures.retry(
            step_run_id=step.id,
            claim=step.claim,
            code=code,
            message=message,
            delay_seconds=crash_delay(crashes=step.crashes + 1),
            failures=0,
            crashes=1,
            last=last,
        ),
        ran_seconds=ran_seconds,
        last=last,
    )
    if recorded:
        _count(step, graph, metrics.RETRIED, ran_seconds)


def _count(step: Claimed, graph: Graph, outcome: str, ran_seconds: float) -> None:
    name = graph.by_key[step.key].step
    began = time.monotonic() - ran_seconds
    metrics.attempt_ended(step, name, outcome, ran_seconds=ran_seconds, began=began)


def persistently(
    write: Callable[[], Any], *, known: Callable[[], Any | None] = lambda: None
) -> Any:
    """Write an outcome although the database may be restarting (crash points 12 and 18).

    known: asked before a further try, because the answer to the one before may have been lost:
    what it returns is that answer, None when nothing was written. After COMMIT_PATIENCE_SECONDS the
    lease mechanism takes over and the error leaves.
    """
    give_up = time.monotonic() + settings.COMMIT_PATIENCE_SECONDS
    wait = FIRST_WAIT_SECONDS
    unsure = False
    while True:
        try:
            if unsure and (found := known()) is not None:
                return found
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
