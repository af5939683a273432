"""Claims and their leases: who works on what, until when, and what happens when nobody does.

All times are the database's. A worker that loses its lease is fenced by its claim: whatever it
still does cannot be committed.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings

from engine import definitions, policies, sql
from engine.causes import ReleaseReason
from engine.policies import OnDead
from engine.transitions import claims, dispatch, failures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from engine.transitions.claims import Claimed

#: Longest patience with a queued step before it is sent again, in seconds.
MAX_PATIENCE_SECONDS = 300
LOST_MESSAGE = "The worker that ran this step was lost."

EXPIRED = """
SELECT claim FROM engine_lease WHERE expires_at < clock_timestamp()
ORDER BY expires_at LIMIT %(limit)s
"""
# Repair: a running row without a lease must not exist; should it, nobody works on it.
UNLEASED = """
SELECT DISTINCT s.claim FROM engine_steprun s
WHERE s.state = 'running' AND NOT EXISTS (SELECT 1 FROM engine_lease l WHERE l.claim = s.claim)
LIMIT %(limit)s
"""
GRACE = """
UPDATE engine_lease
SET expires_at = GREATEST(expires_at, clock_timestamp() + make_interval(secs => %(seconds)s))
"""
CLAIMS_OF_WORKER = """
SELECT DISTINCT claim FROM engine_steprun
WHERE id = ANY(%(ids)s) AND state = 'running' AND worker = %(worker)s
"""
TOO_LONG = """
SELECT s.queue, array_agg(s.id) AS ids FROM (
    SELECT id, queue FROM engine_steprun
    WHERE state = 'queued' AND claim IS NULL AND dispatched_at < clock_timestamp()
        - make_interval(secs => LEAST(%(seconds)s * 2 ^ LEAST(dispatches, 16), %(most)s))
    ORDER BY dispatched_at LIMIT %(limit)s) s
GROUP BY s.queue
"""
#: So many late messages are looked at in one go.
TOO_LONG_LIMIT = 5000

log = structlog.get_logger(__name__)


def claim(*, step_run_ids: Sequence[int], worker: str) -> list[Claimed]:
    """Take what is claimable of these StepRuns under one fresh claim (a random fencing token)."""
    return claims.claim(
        step_run_ids=step_run_ids,
        claim=uuid.uuid4(),
        worker=worker,
        lease_seconds=settings.LEASE_SECONDS,
    )


def renew(*, step: Claimed) -> bool | None:
    """Prolong the lease. Return whether a cancel is wanted, None when the claim is lost."""
    return claims.renew(
        claim=step.claim, step_run_ids=[step.id], lease_seconds=settings.LEASE_SECONDS
    )


def reap(*, limit: int) -> int:
    """End the claims of silent workers: each step is tried again, or is dead after three crashes.

    One transaction a claim, so that a row that cannot be handled does not stop the others.
    """
    found = [row.claim for row in sql.rows(EXPIRED, {"limit": limit})]
    unleased = [row.claim for row in sql.rows(UNLEASED, {"limit": limit})]
    return sum(_crashed(claim, expired=True) for claim in found) + sum(
        _crashed(claim, expired=False) for claim in unleased
    )


def worker_lost(*, step_run_ids: Sequence[int], worker: str) -> int:
    """End the claims of a worker process known to be dead, without waiting for the lease."""
    found = sql.rows(CLAIMS_OF_WORKER, {"ids": list(step_run_ids), "worker": worker})
    return sum(_crashed(row.claim, expired=False) for row in found)


def grant_grace(*, seconds: float) -> int:
    """Give every holder time after an outage in which none of them could renew."""
    return sql.count(GRACE, {"seconds": seconds})


def queued_too_long(*, older_than_seconds: float) -> dict[str, list[int]]:
    """Return by queue what was sent, is held by nobody, and is overdue.

    Patience doubles with every sending, up to five minutes, so that a long queue is not flooded.
    """
    found = sql.rows(
        TOO_LONG,
        {"seconds": older_than_seconds, "most": MAX_PATIENCE_SECONDS, "limit": TOO_LONG_LIMIT},
    )
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


def _crashed(claim: Any, *, expired: bool) -> int:
    try:
        return sql.patiently(lambda: _end_claim(claim, expired=expired))
    except sql.CONNECTION_ERRORS:
        raise
    except Exception:
        log.exception("claim_cannot_be_ended", claim=str(claim))
        return 0


def _end_claim(claim: Any, *, expired: bool) -> int:
    if expired and not failures.expire_lease(claim=claim):
        return 0
    running = failures.running_of(claims=[claim])
    failures.drop_lease(claim=claim)
    for row in running:
        crashes = row.crashes + 1
        log.warning("worker_lost", step_run_id=row.id, run_id=str(row.run_id), crashes=crashes)
        if row.cancel_requested:
            failures.cancel(step_run_id=row.id, claim=claim, reason="worker_lost")
        elif crashes >= policies.MAX_CRASHES:
            graph = definitions.graph(row.version_id)
            failures.bury(
                step_run_id=row.id,
                claim=claim,
                code="worker_lost",
                message=f"The step ended its worker {crashes} times.",
                fail_run=graph.on_dead == OnDead.FAIL,
                failures=0,
                crashes=1,
            )
        else:
            failures.retry(
                step_run_id=row.id,
                claim=claim,
                code="worker_lost",
                message=LOST_MESSAGE,
                delay_seconds=policies.crash_delay(crashes=crashes),
                failures=0,
                crashes=1,
            )
    return len(running) + failures.release_unstarted(claim=claim)
