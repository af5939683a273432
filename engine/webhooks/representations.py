"""The JSON forms of webhooks: the same in the API and in `--json` of the commands."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, Field

from engine.disclosure import Disclosed

if TYPE_CHECKING:
    from engine.models import IncomingHook, WebhookDelivery, WebhookEndpoint


class WebhookEntry(BaseModel):
    """An endpoint that is told of events. Its secrets are never shown here."""

    id: int
    url: str
    description: str
    event_types: list[str] = Field(description="Empty: every type")
    department: str = Field(description="Empty: every department")
    enabled: bool
    disabled_reason: str
    disabled_at: datetime | None
    failures: int = Field(description="Failed attempts since the last success")
    failing_since: datetime | None
    old_secret_until: datetime | None = Field(
        description="Until then the secret before the present one signs as well"
    )
    created_at: datetime
    created_by: str

    @classmethod
    def of(cls, row: WebhookEndpoint, **more: Any) -> Self:
        """Represent an endpoint."""
        return cls(
            id=row.pk,
            url=row.url,
            description=row.description,
            event_types=row.event_types,
            department=row.department,
            enabled=row.enabled,
            disabled_reason=row.disabled_reason,
            disabled_at=row.disabled_at,
            failures=row.failures,
            failing_since=row.failing_since,
            old_secret_until=row.old_secret_until,
            created_at=row.created_at,
            created_by=row.created_by,
            **more,
        )


class WebhookWithSecret(WebhookEntry):
    """An endpoint just made, or given another secret: shown this once."""

    secret: str = Field(description="Verifies signatures (Standard Webhooks); keep it now")


class DeliveryEntry(Disclosed):
    """One event for one endpoint, and what came of the latest attempt."""

    payloads: ClassVar[tuple[str, ...]] = ("excerpt", "payload")

    id: int
    webhook_id: int
    message_id: str = Field(description="The header `webhook-id`, the same on every attempt")
    event_id: str
    event_type: str
    run_id: UUID | None
    department: str
    status: str = Field(description="pending, delivered or failed")
    attempt: int = Field(description="Attempts in all")
    next_at: datetime | None = Field(description="Of a pending one: not before")
    response_code: int | None
    error_code: str
    excerpt: str | None = Field(description="The beginning of what the receiver said")
    duration_ms: int | None
    attempted_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    payload: dict[str, Any] | None = Field(description="The body that is sent")

    @classmethod
    def of(cls, row: WebhookDelivery) -> Self:
        """Represent a delivery."""
        return cls(
            id=row.pk,
            webhook_id=row.endpoint_id,
            message_id=row.message_id,
            event_id=row.event_id,
            event_type=row.event_type,
            run_id=row.run_id,
            department=row.department,
            status=row.status,
            attempt=row.attempt,
            next_at=row.next_at if row.status == "pending" else None,
            response_code=row.response_code,
            error_code=row.error_code,
            excerpt=row.excerpt,
            duration_ms=row.duration_ms,
            attempted_at=row.attempted_at,
            finished_at=row.finished_at,
            created_at=row.created_at,
            payload=row.payload,
        )


class HookEntry(BaseModel):
    """An address of ours whose callers start an automation; neither token nor secret is shown."""

    id: int
    description: str
    automation: str
    department: str
    signed: bool = Field(description="Whether callers must sign (Standard Webhooks)")
    input_field: str = Field(description="The input's field that takes the body; empty: all of it")
    enabled: bool
    old_secret_until: datetime | None = Field(
        description="Until then the secret before the present one is accepted as well"
    )
    created_at: datetime
    created_by: str

    @classmethod
    def of(cls, row: IncomingHook, **more: Any) -> Self:
        """Represent a hook."""
        return cls(
            id=row.pk,
            description=row.description,
            automation=row.automation,
            department=row.department,
            signed=bool(row.secret),
            input_field=row.input_field,
            enabled=row.enabled,
            old_secret_until=row.old_secret_until,
            created_at=row.created_at,
            created_by=row.created_by,
            **more,
        )


class HookWithToken(HookEntry):
    """A hook just made: its address and secret are shown this once."""

    url: str = Field(description="Where to POST; whoever knows it may call, so keep it as a secret")
    secret: str = Field(description="What callers sign with; empty when they need not")

    @classmethod
    def made(cls, row: IncomingHook, *, token: str, secret: str, base: str) -> Self:
        """Represent a hook with its address below `base`."""
        return cls.of(row, url=f"{base.rstrip('/')}/hooks/{token}", secret=secret)


class HookWithSecret(HookEntry):
    """A hook just given another secret: shown this once."""

    secret: str = Field(description="What callers sign with from now on")


class HookAnswer(BaseModel):
    """What the caller of a hook is told: its call is stored, as this run."""

    run_id: UUID
    created: bool = Field(description="False when this call (`webhook-id`) had come before")
