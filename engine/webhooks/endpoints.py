"""Endpoints of outgoing webhooks: the doors through which they are made, changed and disabled."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from engine.access import sealing
from engine.audit import trail
from engine.errors import InputInvalidError, NotFoundError
from engine.models import Lane, WebhookDelivery, WebhookEndpoint
from engine.values import is_storable
from engine.webhooks import addresses, signing

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

#: The lifecycle events that are told (CONTRACT §1, outgoing), with what they mean.
EVENT_TYPES: dict[str, str] = {
    "run.started": "the first step of a run begins",
    "run.status.updated": "a run is paused, resumed, blocked, cancelled, or waits for a person",
    "run.completed": "a run has succeeded",
    "run.failed": "a run has failed, or its deadline has passed",
    "run.cancelled": "a run was cancelled",
    "approval.requested": "a step waits for an approval",
    "approval.decided": "an approval was given or refused",
}
#: Not the department: the log that stands there is of the one it was made for.
CHANGEABLE = ("url", "description", "event_types")
MAX_DESCRIPTION_CHARACTERS = 200
#: How long the secret before the present one goes on signing, in hours.
OLD_SECRET_HOURS = 24
#: An endpoint is disabled when nothing has reached it for `WEBHOOK_DISABLE_AFTER_DAYS`, in at least
#: so many attempts: one event a month that meets a restart must not do it.
DISABLE_AFTER_FAILURES = 10
#: Deliveries deleted at a time when an endpoint is.
DELETED_AT_ONCE = 1000


def create(*, url: str, actor: str, **values: Any) -> tuple[WebhookEndpoint, str]:
    """Add an endpoint; return it and its signing secret, which is shown this once.

    values: description, event_types, department. Raises InputInvalidError naming each field.
    """
    secret = signing.new_secret()
    endpoint = WebhookEndpoint(
        url=url,
        **values,
        secret=sealing.seal(secret, key=settings.MASTER_KEY),
        created_by=actor,
        created_at=Now(),
    )
    check(endpoint)
    with transaction.atomic():
        endpoint.save()
        trail.record(
            "webhook.create", kind="webhook", id=endpoint.pk, actor=actor, after=_told(endpoint)
        )
    endpoint.refresh_from_db()
    log.info("webhook_created", webhook=endpoint.pk, actor=actor)
    return endpoint, secret


def change(*, endpoint_id: int, actor: str, **values: Any) -> WebhookEndpoint:
    """Change fields (`CHANGEABLE`); deliveries that wait go to the new address.

    Raises NotFoundError, or InputInvalidError naming each field at fault.
    """
    fixed = sorted(set(values) - set(CHANGEABLE))
    if fixed:
        problems = [{"field": name, "reason": "cannot be changed"} for name in fixed]
        raise InputInvalidError(f"{', '.join(fixed)}: cannot be changed", problems=problems)

    def act(endpoint: WebhookEndpoint) -> None:
        for name, value in values.items():
            setattr(endpoint, name, value)
        check(endpoint)

    return _locked(endpoint_id, act, event="webhook_changed", actor=actor)


def rotate_secret(*, endpoint_id: int, actor: str) -> tuple[WebhookEndpoint, str]:
    """Give an endpoint a new secret and return it; the old one signs too for OLD_SECRET_HOURS.

    Of a second rotation within that time the first secret of the three stops at once.
    """
    secret = signing.new_secret()

    def act(endpoint: WebhookEndpoint) -> None:
        endpoint.old_secret = endpoint.secret
        endpoint.secret = sealing.seal(secret, key=settings.MASTER_KEY)
        endpoint.old_secret_until = Now() + timedelta(hours=OLD_SECRET_HOURS)

    return _locked(endpoint_id, act, event="webhook_secret_rotated", actor=actor), secret


def enable(*, endpoint_id: int, actor: str) -> WebhookEndpoint:
    """Let an endpoint be told again: what has waited for it goes out now.

    Events of the time in which it was disabled are not made up for.
    """

    def act(endpoint: WebhookEndpoint) -> None:
        check(endpoint)
        endpoint.enabled = True
        endpoint.disabled_reason = ""
        endpoint.disabled_at = None
        endpoint.failures = 0
        endpoint.failing_since = None

    return _locked(endpoint_id, act, event="webhook_enabled", actor=actor)


def disable(*, endpoint_id: int, actor: str) -> WebhookEndpoint:
    """Let an endpoint be told of nothing until it is enabled; what waits for it goes on waiting."""

    def act(endpoint: WebhookEndpoint) -> None:
        if endpoint.enabled:
            _turn_off(endpoint, reason=f"disabled by {actor}")

    return _locked(endpoint_id, act, event="webhook_disabled", actor=actor)


def remove(*, endpoint_id: int, actor: str) -> None:
    """Delete an endpoint and its log. Raises NotFoundError."""
    # First out of the way of new events, whose deliveries would wait for the deletion's locks.
    disable(endpoint_id=endpoint_id, actor=actor)
    rows = WebhookDelivery.objects.filter(endpoint=endpoint_id).values_list("pk", flat=True)
    while found := list(rows[:DELETED_AT_ONCE]):
        WebhookDelivery.objects.filter(pk__in=found).delete()
    with transaction.atomic():
        WebhookEndpoint.objects.filter(pk=endpoint_id).delete()
        trail.record("webhook.remove", kind="webhook", id=endpoint_id, actor=actor)
    log.info("webhook_removed", webhook=endpoint_id, actor=actor)


def note_success(*, endpoint_id: int) -> None:
    """Forget the failures of an endpoint; writes nothing when there are none."""
    WebhookEndpoint.objects.filter(pk=endpoint_id, failures__gt=0).update(
        failures=0, failing_since=None
    )


def note_failure(*, endpoint_id: int, gone: bool) -> None:
    """Count a failed attempt; disable an endpoint that is gone, or has failed for days.

    Call it in the transaction that records the attempt.
    """
    rows = WebhookEndpoint.objects.filter(pk=endpoint_id, enabled=True)
    rows.update(failures=F("failures") + 1, failing_since=Coalesce("failing_since", Now()))
    days = settings.WEBHOOK_DISABLE_AFTER_DAYS
    failed = Q(failures__gte=DISABLE_AFTER_FAILURES, failing_since__lt=Now() - timedelta(days=days))
    for endpoint in rows.filter(Q() if gone else failed).select_for_update(no_key=True):
        reason = (
            "the receiver answered 410 Gone"
            if gone
            else f"nothing has reached it for {days:g} days, in {endpoint.failures} attempts"
        )
        _turn_off(endpoint, reason=reason)
        endpoint.save(update_fields=["enabled", "disabled_reason", "disabled_at"])
        log.warning("webhook_disabled", webhook=endpoint_id, reason=reason)


def check(endpoint: WebhookEndpoint) -> None:
    """Raise InputInvalidError naming each field that is not valid."""
    problems = []
    try:
        found = addresses.target(endpoint.url)
        addresses.check_literal(found, allowed=settings.WEBHOOK_ALLOWED_NETWORKS)
    except addresses.AddressRefusedError as exc:
        problems.append({"field": "url", "reason": str(exc)})
    if len(endpoint.description) > MAX_DESCRIPTION_CHARACTERS or not is_storable(
        endpoint.description
    ):
        reason = f"at most {MAX_DESCRIPTION_CHARACTERS} characters of valid text"
        problems.append({"field": "description", "reason": reason})
    unknown = sorted(set(endpoint.event_types) - set(EVENT_TYPES))
    if unknown:
        reason = f"unknown: {', '.join(unknown)[:200]!a}; there are: {', '.join(EVENT_TYPES)}"
        problems.append({"field": "event_types", "reason": reason})
    if endpoint.department and not (
        is_storable(endpoint.department) and Lane.objects.filter(slug=endpoint.department).exists()
    ):
        known = ", ".join(Lane.objects.order_by("slug").values_list("slug", flat=True)[:20])
        reason = f"unknown; there are: {known or 'none'}"
        problems.append({"field": "department", "reason": reason})
    if problems:
        text = "; ".join(f"{found['field']}: {found['reason']}" for found in problems)
        raise InputInvalidError(text, problems=problems)


#: What the log calls it -> what the audit trail does.
_ACTIONS = {
    "webhook_changed": "webhook.change",
    "webhook_secret_rotated": "webhook.rotate_secret",  # nosec B105 - the name of an act
    "webhook_enabled": "webhook.enable",
    "webhook_disabled": "webhook.disable",
}


def _told(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return what the audit trail is told of an endpoint: of its address the host and a digest.

    Who is told often stands in the path alone (`hooks.slack.com/…`): that it changed must be seen.
    """
    return {
        "host": addresses.target(endpoint.url).host,
        "url_sha256": trail.digest(endpoint.url),
        "event_types": list(endpoint.event_types),
        "department": endpoint.department,
        "enabled": endpoint.enabled,
    }


def _turn_off(endpoint: WebhookEndpoint, *, reason: str) -> None:
    endpoint.enabled = False
    endpoint.disabled_reason = reason[:200]
    endpoint.disabled_at = Now()


def _locked(
    endpoint_id: int, act: Callable[[WebhookEndpoint], None], *, event: str, actor: str
) -> WebhookEndpoint:
    with transaction.atomic():
        endpoint = (
            WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=endpoint_id).first()
        )
        if endpoint is None:
            raise NotFoundError(f"There is no webhook {endpoint_id}")
        before = _told(endpoint)
        act(endpoint)
        endpoint.save()
        endpoint.refresh_from_db()
        was, now = trail.changed(before, _told(endpoint))
        action = _ACTIONS[event]
        trail.record(action, kind="webhook", id=endpoint_id, actor=actor, before=was, after=now)
    log.info(event, webhook=endpoint_id, actor=actor)
    return endpoint
