"""What can be read of webhooks. Bounded, indexed, no side effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from engine.errors import NotFoundError
from engine.models import IncomingHook, WebhookDelivery, WebhookEndpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from django.db.models import QuerySet

Row = TypeVar("Row", WebhookEndpoint, WebhookDelivery, IncomingHook)


def endpoints(
    *,
    limit: int,
    before: int | None = None,
    department: str | None = None,
    departments: Sequence[str] | None = None,
    enabled: bool | None = None,
) -> list[WebhookEndpoint]:
    """Return endpoints, newest first; `before` is the last id of the page before.

    departments: leave out those of all others; None leaves out nothing.
    """
    found = WebhookEndpoint.objects.all()
    found = _of(found, department, departments)
    if enabled is not None:
        found = found.filter(enabled=enabled)
    return _page(found, limit=limit, before=before)


def endpoint(*, endpoint_id: int) -> WebhookEndpoint:
    """Return one endpoint, or NotFoundError."""
    found = WebhookEndpoint.objects.filter(pk=endpoint_id).first()
    if found is None:
        raise NotFoundError(f"There is no webhook {endpoint_id}")
    return found


def deliveries(
    *,
    endpoint_id: int,
    limit: int,
    before: int | None = None,
    status: str | None = None,
    event_type: str | None = None,
    run_id: UUID | None = None,
) -> list[WebhookDelivery]:
    """Return the log of an endpoint, newest first; `before` is the last id of the page before."""
    found = WebhookDelivery.objects.filter(endpoint=endpoint_id)
    if status:
        found = found.filter(status=status)
    if event_type:
        found = found.filter(event_type=event_type)
    if run_id:
        found = found.filter(run_id=run_id)
    return _page(found, limit=limit, before=before)


def delivery(*, endpoint_id: int, delivery_id: int) -> WebhookDelivery:
    """Return one delivery of an endpoint, or NotFoundError."""
    found = WebhookDelivery.objects.filter(pk=delivery_id, endpoint=endpoint_id).first()
    if found is None:
        raise NotFoundError(f"There is no delivery {delivery_id} of webhook {endpoint_id}")
    return found


def hooks(
    *,
    limit: int,
    before: int | None = None,
    department: str | None = None,
    departments: Sequence[str] | None = None,
    automation: str | None = None,
) -> list[IncomingHook]:
    """Return incoming hooks, newest first; `before` is the last id of the page before.

    departments: leave out those of all others; None leaves out nothing.
    """
    found = IncomingHook.objects.all()
    found = _of(found, department, departments)
    if automation is not None:
        found = found.filter(automation=automation)
    return _page(found, limit=limit, before=before)


def hook(*, hook_id: int) -> IncomingHook:
    """Return one incoming hook, or NotFoundError."""
    found = IncomingHook.objects.filter(pk=hook_id).first()
    if found is None:
        raise NotFoundError(f"There is no hook {hook_id}")
    return found


def _of(
    found: QuerySet[Row], department: str | None, departments: Sequence[str] | None
) -> QuerySet[Row]:
    """Return those of one department, and of none but `departments`; None leaves out nothing."""
    if department is not None:
        found = found.filter(department=department)
    if departments is not None:
        found = found.filter(department__in=departments)
    return found


def _page(found: QuerySet[Row], *, limit: int, before: int | None) -> list[Row]:
    """Return the newest; `before` is the last id of the page before."""
    found = found.order_by("-id")
    if before is not None:
        found = found.filter(id__lt=before)
    return list(found[:limit])
