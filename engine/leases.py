"""Claims and their leases: who works on what, until when, and what happens when nobody does.

All times are the database's. A worker that loses its lease is fenced by its claim: whatever it
still does cannot be committed.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import transaction

from engine import definitions, metrics, outcomes, policies, registry, spans, sql, tracing
from engine.causes import ReleaseReason
from engine.policies import OnDead
from engine.transitions import claims, dispatch, failures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from engine.graph import Graph
    from engine.transitions.claims import Claimed

#: Longest patience with a queued step before it is sent again, in seconds.
MAX_PATIENCE_SECONDS = 300
#: How long after its timeout an attempt may still end by itself, in seconds: its process' own
#: verdict comes first, and a result in time may need a whole completion transaction.
GRACE_SECONDS = 10.0
LOST_MESSAGE = "The worker that ran this step was lost."

EXPIRED = """
SELECT claim FROM engine_lease WHERE expires_at < clock_timestamp()
ORDER BY expires_at LIMIT %(limit)s
"""
# Repair: a held row without a lease must not exist; should it, nobody works on it.
UNLEASED = """
SELECT DISTINCT s.claim FROM engine_steprun s
WHERE s.state IN ('queued', 'running') AND s.claim IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM engine_lease l WHERE l.claim = s.claim)
LIMIT %(limit)s
"""
GRACE = """
UPDATE engine_lease
SET expires_at = GREATEST(expires_at, clock_timestamp() + make_interval(secs => %(seconds)s))
"""
# What it went on with is in no message. A name may come again (a container's first pid): a claim
# that is younger than the death is another process'.
CLAIMS_OF_WORKER = """
SELECT claim FROM engine_lease
WHERE worker = %(worker)s AND claimed_at < clock_timestamp() - make_interval(secs => %(ago)s)
"""
# Along steprun_in_flight (lane, dispatched_at), each lane for itself: a backlog that nobody serves
# hides no lost message of another. statement_timestamp() is stable, so that the index bounds the
# reading too: what was sent just now is not looked at. Sent once is sent, by whomever: patience
# doubles from the second sending on.
TOO_LONG = """
SELECT s.queue, array_agg(s.id) AS ids
FROM engine_lane l CROSS JOIN LATERAL (
    SELECT id, queue FROM engine_steprun
    WHERE lane = l.slug AND state = 'queued' AND claim IS NULL AND {which}
      AND dispatched_at < statement_timestamp() - make_interval(secs => %(seconds)s)
      AND dispatched_at < statement_timestamp() - make_interval(secs =>
        LEAST(%(seconds)s * 2 ^ LEAST(GREATEST(dispatches - 1, 0), 16), %(most)s))
    ORDER BY dispatched_at LIMIT %(limit)s) s
GROUP BY s.queue
"""
# A subquery over the array is hashed whatever the plan; a list of thousands is not.
TOO_LONG_AND_NOT_HELD = TOO_LONG.replace("{which}", "id NOT IN (SELECT unnest(%(ids)s::bigint[]))")
TOO_LONG_OF_THESE = """
SELECT s.queue, array_agg(s.id) AS ids FROM (
    SELECT id, queue FROM engine_steprun
    WHERE id = ANY(%(ids)s::bigint[]) AND state || '' = 'queued' AND claim IS NULL
      AND dispatched_at < statement_timestamp() - make_interval(secs =>
        LEAST(%(seconds)s * 2 ^ LEAST(GREATEST(dispatches - 1, 0), 16), %(most)s))
    ORDER BY dispatched_at LIMIT %(limit)s) s
GROUP BY s.queue
"""
#: So many late messages of a lane are looked at in one go.
TOO_LONG_LIMIT = 5000

log = structlog.get_logger(__name__)


def claim(*, step_run_ids: Sequence[int], worker: str, claim: UUID | None = None) -> list[Claimed]:
    """Take what is claimable of these StepRuns under one claim, a fresh random fencing token."""
    return claims.claim(
        step_run_ids=step_run_ids,
        claim=claim or uuid.uuid4(),
        worker=worker,
        lease_seconds=settings.LEASE_SECONDS,
    )


def renew(
    *,
    step: Claimed,
    attempt_seconds: float | None = None,
    patience_seconds: float | None = None,
) -> bool | None:
    """Prolong the lease. Return whether a cancel is wanted, None when the claim is lost.

    attempt_seconds: how long an attempt may take in all; patience_seconds: for how much longer it
    may be still. The lease ends a little after the earlier of the two, however often it is renewed:
    a step that hangs beside a live heartbeat is ended by the database's clock.
    """
    # A renewal that comes late must not look like a standstill: the patience of a lease.
    late = settings.LEASE_SECONDS
    return claims.renew(
        claim=step.claim,
        step_run_id=step.id,
        lease_seconds=settings.LEASE_SECONDS,
        attempt_seconds=None if attempt_seconds is None else attempt_seconds + GRACE_SECONDS,
        patience_seconds=None if patience_seconds is None else patience_seconds + late,
    )


def reap(*, limit: int, repair: bool = True) -> int:
    """End the claims of silent workers: each step is tried again, or is dead after three crashes.

    One transaction a claim, so that a row that cannot be handled does not stop the others. With
    `repair` also claims without a lease, which must not exist: a look at everything in flight.
    """
    found = [row.claim for row in sql.rows(EXPIRED, {"limit": limit})]
    unleased = [row.claim for row in sql.rows(UNLEASED, {"limit": limit})] if repair else []
    return sum(_crashed(claim, expired=True) for claim in found) + sum(
        _crashed(claim, expired=False) for claim in unleased
    )


def worker_lost(
    *, step_run_ids: Sequence[int], worker: str, blame: bool = True, ago_seconds: float = 0.0
) -> int:
    """End the claims of a worker process that died so long ago, without waiting for the lease.

    What it had not begun of these is made ready at once: its message died with it. Without
    `blame` the process was ended by its own shutdown, which counts as no crash of the step.
    """
    found = sql.rows(CLAIMS_OF_WORKER, {"worker": worker, "ago": ago_seconds})
    ended = sum(_crashed(row.claim, expired=False, blame=blame) for row in found)
    return ended + hand_back(step_run_ids=step_run_ids, reason=ReleaseReason.WORKER_LOST)


def grant_grace(*, seconds: float) -> int:
    """Give every holder time after an outage in which none of them could renew."""
    return sql.count(GRACE, {"seconds": seconds})


def queued_too_long(
    *,
    older_than_seconds: float,
    most_seconds: float = MAX_PATIENCE_SECONDS,
    held: Sequence[int] = (),
    among: Sequence[int] | None = None,
) -> dict[str, list[int]]:
    """Return by queue what was sent, is claimed by nobody, and is overdue.

    Patience doubles with every sending, up to `most_seconds`, so that a long queue is not flooded.
    What workers say they have `held` is left out; `among` asks about these StepRuns only.
    """
    values = {
        "seconds": older_than_seconds,
        "most": most_seconds,
        "limit": TOO_LONG_LIMIT,
        "ids": list(held if among is None else among),
    }
    found = sql.rows(TOO_LONG_AND_NOT_HELD if among is None else TOO_LONG_OF_THESE, values)
    return {row.queue: list(row.ids) for row in found}


def hand_back(*, step_run_ids: Sequence[int], reason: str) -> int:
    """Make queued steps ready again, to be sent anew."""
    return sql.patiently(lambda: dispatch.hand_back(step_run_ids=step_run_ids, reason=reason))


def broker_lost(*, sent_before: datetime) -> int:
    """Make everything ready again that was sent to a broker which has lost its memory since."""
    return sql.patiently(
        lambda: dispatch.hand_back_sent_before(moment=sent_before, reason=ReleaseReason.BROKER_LOST)
    )


def wake_retries(*, limit: int) -> int:
    """Make steps ready whose backoff has run out."""
    return dispatch.wake_retries(limit=limit)


def _crashed(claim: Any, *, expired: bool, blame: bool = True) -> int:
    try:
        return sql.patiently(lambda: _end_claim(claim, expired=expired, blame=blame))
    except sql.CONNECTION_ERRORS:
        raise
    except Exception:
        log.exception("claim_cannot_be_ended", claim=str(claim))
        return 0


def _end_claim(claim: Any, *, expired: bool, blame: bool) -> int:
    lease = failures.expire_lease(claim=claim) if expired else failures.drop_lease(claim=claim)
    if lease is None and expired:
        return 0
    # Without a lease, or with one of a worker that names no steps, the rows are searched for.
    ids = lease.step_run_ids if lease is not None and lease.step_run_ids else None
    running = failures.running_of(claim=claim, step_run_ids=ids)
    for row in running:
        graph = definitions.graph(row.version_id)
        if expired and lease is not None and lease.overran:
            ending = _overran(row, graph, lease.deadline_at)
        else:
            ending = _crash(row) if blame else STOPPED
        _end_attempt(row, claim, graph, ending)
    # Which of several ended its worker is not known: each runs alone, and only then is blamed.
    unstarted = failures.release_unstarted(claim=claim, step_run_ids=ids, alone=blame)
    return len(running) + unstarted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """How an attempt ends that its holder did not end; `delay` None when it was the last one."""

    code: str
    message: str
    delay: float | None
    failures: int
    crashes: int


#: A deploy must not use up the crashes of a step that is longer than its worker's grace.
STOPPED = _Ending(
    code="worker_stopped",
    message="The worker that ran this step was stopped before the step ended.",
    delay=0.0,
    failures=0,
    crashes=0,
)


def _crash(row: Any) -> _Ending:
    crashes = row.crashes + 1
    log.warning("worker_lost", crashes=crashes, **_logged(row))
    last = crashes >= policies.MAX_CRASHES
    return _Ending(
        code="worker_lost",
        message=f"The step ended its worker {crashes} times." if last else LOST_MESSAGE,
        delay=None if last else policies.crash_delay(crashes=crashes),
        failures=0,
        crashes=1,
    )


def _logged(row: Any) -> dict[str, Any]:
    """Return what a line says of an attempt that was lost: whose it was, not who found it."""
    return {
        "run_id": str(row.run_id),
        "step": row.key,
        "step_id": row.id,
        "attempt": row.attempt,
        "worker": row.worker,
        "correlation_id": row.correlation_id,
    }


def _overran(row: Any, graph: Graph, deadline_at: datetime) -> _Ending:
    """Judge an attempt that was renewed up to its deadline: a failure of the step, not a crash."""
    limits = registry.limits(kind=row.kind, step=graph.by_key[row.key].step)
    # How long it was allowed to run counts, not what this process' code says of the step.
    allowed = (deadline_at - row.started_at).total_seconds() - GRACE_SECONDS
    # A deadline before the end of the attempt can only have come from missing progress.
    if limits.progress_within is not None and allowed < limits.timeout - GRACE_SECONDS:
        error = outcomes.no_progress(limits.progress_within)
    else:
        error = outcomes.timeout(allowed)
    log.warning("step_overran", code=error.code, **_logged(row))
    tries = row.failures + 1
    last = tries >= limits.retry.attempts
    return _Ending(
        code=error.code,
        message=error.message,
        delay=None if last else limits.retry.delay(failures=tries, random=random.SystemRandom()),
        failures=1,
        crashes=0,
    )


def _end_attempt(row: Any, claim: Any, graph: Graph, ending: _Ending) -> None:
    common = {
        "step_run_id": row.id,
        "claim": claim,
        "code": ending.code,
        "message": ending.message,
        "failures": ending.failures,
        "crashes": ending.crashes,
    }
    if row.cancel_requested:
        outcome = metrics.CANCELLED
        failures.cancel(step_run_id=row.id, claim=claim, reason=ending.code)
    elif ending.delay is None:
        outcome = metrics.DEAD
        failures.bury(**common, fail_run=graph.on_dead == OnDead.FAIL)
    else:
        outcome = metrics.RETRIED
        failures.retry(**common, delay_seconds=ending.delay)
    name = graph.by_key[row.key].step
    transaction.on_commit(lambda: metrics.attempt_lost(row, name, outcome))
    if tracing.is_on():
        # Its own process cannot tell of it any more, or only of an attempt that does not count.
        transaction.on_commit(partial(spans.lost, row, outcome=outcome, code=ending.code))
