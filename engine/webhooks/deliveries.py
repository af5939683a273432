"""Deliveries: one row an event and endpoint, made with the event, sent until it is accepted.

The row is the timer: `next_at` says when it is due. A claim moves it on by a lease, so that what a
dead manager was sending comes up again; the answer is recorded by whoever holds the claim.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from engine import sql, trace_context
from engine.access import sealing
from engine.audit import trail
from engine.errors import NotFoundError, StateConflictError
from engine.models import WebhookDelivery, WebhookEndpoint
from engine.webhooks import backoff, endpoints, posting, signing
from engine.webhooks.posting import Answer, Letter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = structlog.get_logger(__name__)

#: How long a claim holds, in seconds: longer than any attempt takes, with the recording of it.
LEASE_SECONDS = 90.0
#: The stream whose events are told; others are for operators.
STREAM = "automation.events"
TEST_TYPE = "webhook.test"
#: Finished deliveries that are forgotten in one go.
FORGOTTEN_AT_ONCE = 1000

# Runs in the transaction that takes the events out of the outbox: an event and an endpoint meet
# once. The share lock keeps an endpoint from being deleted meanwhile. What an event carries is
# chosen here by name: metadata and a link, whatever else may come to stand in `data`.
FAN_OUT = """
WITH listening AS MATERIALIZED (
    SELECT id, event_types, department FROM engine_webhookendpoint
    WHERE enabled ORDER BY id FOR KEY SHARE)
INSERT INTO engine_webhookdelivery (endpoint_id, message_id, event_id, event_type, run_id,
    department, payload, status, attempt, tries, next_at, error_code, excerpt, created_at)
SELECT w.id, 'msg_' || replace(gen_random_uuid()::text, '-', ''), 'outbox-' || e.id, e.event_type,
    e.run_id, COALESCE(e.data->>'department', ''),
    jsonb_build_object('type', e.event_type,
        'timestamp', to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'data', jsonb_strip_nulls(jsonb_build_object(
            'event_id', 'outbox-' || e.id, 'run_id', e.run_id,
            'url', %(base)s::text || '/runs/' || e.run_id,
            'automation', e.data->'automation', 'department', e.data->'department',
            'correlation_id', e.data->'correlation_id',
            'traceparent', NULLIF(e.data->'traceparent', '""'), 'status', e.data->'status',
            'awaiting', e.data->'awaiting', 'reason', e.data->'reason',
            'step', e.data->'step', 'approval_id', e.data->'approval_id'))),
    'pending', 0, 0, clock_timestamp(), '', '', clock_timestamp()
FROM engine_outboxevent e JOIN listening w
    ON (w.event_types = '{}' OR e.event_type = ANY(w.event_types))
    AND (w.department = '' OR w.department = e.data->>'department')
WHERE e.id = ANY(%(ids)s::bigint[]) AND e.stream = %(stream)s
ORDER BY e.id, w.id
ON CONFLICT (endpoint_id, event_id) DO NOTHING
"""
# Endpoint by endpoint, each as much as it may have on the way: a slow one, and a long backlog of
# it, is in nobody's way. A disabled one is not looked at: what waits for it waits.
CLAIM = """
WITH due AS (
    SELECT d.id FROM engine_webhookendpoint w
    LEFT JOIN unnest(%(busy)s::bigint[], %(counts)s::int[]) AS b(endpoint_id, flying)
        ON b.endpoint_id = w.id
    CROSS JOIN LATERAL (
        SELECT x.id, x.next_at FROM engine_webhookdelivery x
        WHERE x.endpoint_id = w.id AND x.status = 'pending'
          AND x.next_at <= (SELECT clock_timestamp())
        ORDER BY x.next_at
        LIMIT GREATEST(0, %(each)s - COALESCE(b.flying, 0))
        FOR NO KEY UPDATE SKIP LOCKED) d
    WHERE w.enabled
    ORDER BY d.next_at LIMIT %(limit)s)
UPDATE engine_webhookdelivery d
SET claim = %(claim)s, attempt = d.attempt + 1, tries = d.tries + 1,
    attempted_at = clock_timestamp(),
    next_at = clock_timestamp() + %(lease)s * interval '1 second'
FROM due, engine_webhookendpoint w
WHERE d.id = due.id AND w.id = d.endpoint_id
RETURNING d.id, d.endpoint_id, d.message_id, d.payload, d.tries, w.url, w.secret,
    CASE WHEN w.old_secret_until > clock_timestamp() THEN w.old_secret ELSE '' END AS old_secret
"""
FORGET = """
DELETE FROM engine_webhookdelivery WHERE id IN (
    SELECT id FROM engine_webhookdelivery
    WHERE status <> 'pending' AND finished_at < clock_timestamp() - %(days)s * interval '1 day'
    ORDER BY finished_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this manager is sending."""

    id: int
    endpoint_id: int
    claim: uuid.UUID
    message_id: str
    payload: Any = field(repr=False)
    tries: int
    url: str
    #: Sealed; the newest first.
    secrets: tuple[str, ...] = field(repr=False)


def fan_out(event_ids: Sequence[int]) -> int:
    """Make a delivery of each event for each endpoint that wants it; return how many.

    Call it in the transaction that takes the events away.
    """
    values = {
        "ids": sql.array(event_ids),
        "stream": STREAM,
        "base": settings.PUBLIC_URL.rstrip("/"),
    }
    return sql.count(FAN_OUT, values)


def claim(*, limit: int, each: int, busy: Mapping[int, int]) -> list[Claimed]:
    """Take deliveries that are due, oldest first.

    each: most that one endpoint may have on the way; busy: endpoint → how many it has already.
    """
    token = uuid.uuid4()
    values = {
        "limit": limit,
        "each": each,
        "busy": sql.array(busy.keys()),
        "counts": sql.array(busy.values()),
        "claim": token,
        "lease": LEASE_SECONDS,
    }
    return [
        Claimed(
            id=row.id,
            endpoint_id=row.endpoint_id,
            claim=token,
            message_id=row.message_id,
            payload=sql.parsed(row.payload),
            tries=row.tries,
            url=row.url,
            secrets=tuple(filter(None, (row.secret, row.old_secret))),
        )
        for row in sql.rows(CLAIM, values)
    ]


def letter(claimed: Claimed, *, at: datetime | None = None) -> Letter:
    """Return what to post, signed now; raises UnsealableError when a secret cannot be read."""
    body = json.dumps(claimed.payload, ensure_ascii=False, separators=(",", ":"))
    keys = [sealing.unseal(sealed, key=settings.MASTER_KEY) for sealed in claimed.secrets]
    headers = signing.headers(
        message_id=claimed.message_id, body=body, at=at or datetime.now(UTC), secrets=keys
    )
    # The receiver may go on with the trace of who asked for the run.
    if traceparent := claimed.payload["data"].get("traceparent"):
        headers.append((trace_context.HEADER, traceparent))
    return Letter(url=claimed.url, body=body.encode(), headers=headers)


def record(claimed: Claimed, answer: Answer) -> bool:
    """Write what came of an attempt; False when the claim is somebody else's by now.

    A delivery that failed is due again after a pause, or has failed for good. An endpoint that is
    gone (410), or has failed for days, is disabled.
    """
    with transaction.atomic():
        mine = WebhookDelivery.objects.filter(pk=claimed.id, claim=claimed.claim)
        seen = {
            "claim": None,
            "response_code": answer.response_code,
            "error_code": answer.error_code,
            "excerpt": answer.excerpt,
            "duration_ms": answer.duration_ms,
        }
        if not answer.error_code:
            done = mine.update(**seen, status="delivered", finished_at=Now())
            if done:
                endpoints.note_success(endpoint_id=claimed.endpoint_id)
            return bool(done)
        gone = answer.response_code == posting.GONE
        pause = backoff.pause_seconds(tries=claimed.tries, retry_after=answer.retry_after)
        if gone or pause is None:
            done = mine.update(**seen, status="failed", finished_at=Now())
        else:
            done = mine.update(**seen, next_at=Now() + timedelta(seconds=pause))
        if done:
            endpoints.note_failure(endpoint_id=claimed.endpoint_id, gone=gone)
        return bool(done)


def release(claimed: Claimed) -> int:
    """Give back what was not sent to its end: it is due at once, and the attempt does not count."""
    return WebhookDelivery.objects.filter(pk=claimed.id, claim=claimed.claim).update(
        claim=None, next_at=Now(), attempt=F("attempt") - 1, tries=F("tries") - 1
    )


def resend(*, delivery_id: int, endpoint_id: int, actor: str) -> WebhookDelivery:
    """Send a delivery again, now, with all its attempts before it, under the same `webhook-id`.

    Raises NotFoundError; StateConflictError while it is being sent, or its endpoint is disabled.
    """
    with transaction.atomic():
        row = (
            WebhookDelivery.objects.select_for_update(no_key=True, of=("self",))
            .select_related("endpoint")
            .filter(pk=delivery_id, endpoint=endpoint_id)
            .first()
        )
        if row is None:
            raise NotFoundError(f"There is no delivery {delivery_id} of webhook {endpoint_id}")
        if not row.endpoint.enabled:
            raise StateConflictError("The webhook", wanted="send to it", actual="disabled")
        flying = Q(claim__isnull=False, next_at__gt=Now())
        free = WebhookDelivery.objects.filter(~flying, pk=row.pk)
        if not free.update(status="pending", claim=None, tries=0, next_at=Now(), finished_at=None):
            raise StateConflictError("The delivery", wanted="resend it", actual="being sent")
        after = {"webhook_id": endpoint_id}
        trail.record("webhook.resend", kind="delivery", id=delivery_id, actor=actor, after=after)
    log.info("webhook_resent", webhook=endpoint_id, delivery=delivery_id, actor=actor)
    row.refresh_from_db()
    return row


def send_test(*, endpoint_id: int, actor: str) -> WebhookDelivery:
    """Let an endpoint be told of an event that means nothing. Raises as `resend` does."""
    endpoint = WebhookEndpoint.objects.filter(pk=endpoint_id).first()
    if endpoint is None:
        raise NotFoundError(f"There is no webhook {endpoint_id}")
    if not endpoint.enabled:
        raise StateConflictError("The webhook", wanted="send to it", actual="disabled")
    mark = uuid.uuid4().hex
    now = datetime.now(UTC)
    with transaction.atomic():
        row = WebhookDelivery.objects.create(
            endpoint=endpoint,
            message_id=f"msg_{mark}",
            event_id=f"test-{mark}",
            event_type=TEST_TYPE,
            department=endpoint.department,
            payload={
                "type": TEST_TYPE,
                "timestamp": now.isoformat().replace("+00:00", "Z"),
                "data": {"event_id": f"test-{mark}", "webhook_id": endpoint_id},
            },
            status="pending",
            next_at=Now(),
            created_at=Now(),
        )
        trail.record("webhook.test", kind="webhook", id=endpoint_id, actor=actor)
    log.info("webhook_tested", webhook=endpoint_id, delivery=row.pk, actor=actor)
    row.refresh_from_db()
    return row


def forget(*, days: float) -> int:
    """Delete finished deliveries that ended so many days ago; return how many, a bounded number."""
    return sql.count(FORGET, {"days": days, "limit": FORGOTTEN_AT_ONCE})
