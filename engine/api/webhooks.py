"""`/webhooks`: who is told of events, and what became of each telling."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar
from uuid import UUID  # noqa: TC003 - pydantic resolves annotations at run time

from drf_spectacular.utils import extend_schema
from pydantic import Field, StringConstraints
from rest_framework.response import Response
from rest_framework.views import APIView

from engine.api import permissions, principal, requests
from engine.api.changes import Change, no_default
from engine.api.pages import Listing, page
from engine.api.problems import Conflict, Problem, RequestInvalid
from engine.api.requests import Page, RowId, Strict, Word
from engine.errors import InputInvalidError, StateConflictError
from engine.webhooks import addresses, deliveries, endpoints, selectors
from engine.webhooks.representations import DeliveryEntry, WebhookEntry, WebhookWithSecret

if TYPE_CHECKING:
    from rest_framework.request import Request

    from engine.models import WebhookDelivery, WebhookEndpoint

READ, WRITE = "webhooks.read", "webhooks.write"
REFUSALS = {400: Problem, 401: Problem, 403: Problem}
FOUND = {**REFUSALS, 404: Problem}

T = TypeVar("T")
Act = TypeVar("Act", bound=Callable[..., Response])
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Url = Annotated[Text, Field(min_length=1, max_length=addresses.MAX_URL_CHARACTERS)]
Description = Annotated[Text, Field(max_length=endpoints.MAX_DESCRIPTION_CHARACTERS)]
EventType = Literal[
    "run.started",
    "run.status.updated",
    "run.completed",
    "run.failed",
    "run.cancelled",
    "approval.requested",
    "approval.decided",
]
EventTypes = Annotated[list[EventType], Field(max_length=len(endpoints.EVENT_TYPES))]


class WebhookList(Listing[WebhookEntry]):
    """Webhooks, newest first."""


class DeliveryList(Listing[DeliveryEntry]):
    """Deliveries of a webhook, newest first."""


class WebhooksQuery(Page):
    """Which webhooks."""

    before: RowId | None = Field(default=None, description="Only webhooks older than this one")
    department: Word | None = None
    enabled: bool | None = None


class DeliveriesQuery(Page):
    """Which deliveries."""

    before: RowId | None = Field(default=None, description="Only deliveries older than this one")
    status: Literal["pending", "delivered", "failed"] | None = None
    event_type: Word | None = None
    run_id: UUID | None = None


class WebhookRequest(Strict):
    """Where to tell what."""

    url: Url = Field(description="https, at a public address, unless the operator allows others")
    description: Description = ""
    event_types: EventTypes = Field(default=[], description="Empty: every type")
    department: Annotated[Text, Field(max_length=63)] = Field(
        default="", description="Only events of this department; empty: of every one"
    )


class WebhookChange(Change):
    """What may be changed; what is left out stays as it is."""

    url: Url = Field(default="", json_schema_extra=no_default)
    description: Description = Field(default="", json_schema_extra=no_default)
    event_types: EventTypes = Field(default=[], json_schema_extra=no_default)


class WebhooksView(APIView):
    """The collection of webhooks."""

    scopes: ClassVar[dict[str, str]] = {"GET": READ, "POST": WRITE}
    by_department = True

    @extend_schema(
        tags=["webhooks"],
        operation_id="listWebhooks",
        summary="List webhooks, newest first",
        parameters=requests.parameters(WebhooksQuery),
        responses={200: WebhookList, **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        """List webhooks."""
        wanted = requests.query(request, WebhooksQuery)
        seen = permissions.reach(request, READ).only
        found = selectors.endpoints(**wanted.model_dump(), departments=seen)
        entries = [WebhookEntry.of(row) for row in found]
        return page(request, entries, limit=wanted.limit, cursor="before")

    @extend_schema(
        tags=["webhooks"],
        operation_id="createWebhook",
        summary="Add a webhook; its signing secret is shown this once",
        request=WebhookRequest,
        responses={201: WebhookWithSecret, **REFUSALS, 413: Problem},
    )
    def post(self, request: Request) -> Response:
        """Add a webhook."""
        requests.query(request, requests.Nothing)
        wanted = requests.body(request.data, WebhookRequest)
        who = principal.of(request)
        if not who.policy.allows(WRITE, wanted.department or None):
            raise permissions.ScopeMissing(WRITE, wanted.department or None)
        row, secret = valid(lambda: endpoints.create(**wanted.model_dump(), actor=who.subject))
        body = WebhookWithSecret.of(row, secret=secret).model_dump(mode="json")
        return Response(body, status=201, headers={"Location": f"/webhooks/{row.pk}"})


class WebhookView(APIView):
    """One webhook."""

    scopes: ClassVar[dict[str, str]] = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}
    by_department = True

    @extend_schema(
        tags=["webhooks"],
        operation_id="getWebhook",
        summary="A webhook",
        responses={200: WebhookEntry, **FOUND},
    )
    def get(self, request: Request, webhook_id: str) -> Response:
        """Show a webhook."""
        requests.nothing(request)
        return _shown(required(request, webhook_id, READ))

    @extend_schema(
        tags=["webhooks"],
        operation_id="changeWebhook",
        summary="Change a webhook; what waits for it goes to its new address",
        request=WebhookChange,
        responses={200: WebhookEntry, **FOUND, 413: Problem},
    )
    def patch(self, request: Request, webhook_id: str) -> Response:
        """Change a webhook."""
        requests.query(request, requests.Nothing)
        row = required(request, webhook_id, WRITE)
        wanted = requests.body(request.data, WebhookChange)
        changes = wanted.model_dump(include=wanted.model_fields_set)
        by = principal.of(request).subject
        return _shown(valid(lambda: endpoints.change(endpoint_id=row.pk, actor=by, **changes)))

    @extend_schema(
        tags=["webhooks"],
        operation_id="deleteWebhook",
        summary="Delete a webhook and its log",
        responses={204: None, **FOUND},
    )
    def delete(self, request: Request, webhook_id: str) -> Response:
        """Delete a webhook."""
        requests.nothing(request)
        row = required(request, webhook_id, WRITE)
        endpoints.remove(endpoint_id=row.pk, actor=principal.of(request).subject)
        return Response(status=204)


def _acting(summary: str, operation: str, answers: dict[int, Any]) -> Callable[[Act], Act]:
    described: Callable[[Act], Act] = extend_schema(
        tags=["webhooks"],
        operation_id=operation,
        summary=summary,
        request=None,
        responses={**answers, **FOUND},
    )
    return described


class RotateSecretView(APIView):
    """Another secret."""

    scopes: ClassVar[dict[str, str]] = {"POST": WRITE}
    by_department = True

    @_acting(
        "Give a webhook a new secret, shown this once; the old one signs too for 24 hours",
        "rotateWebhookSecret",
        {200: WebhookWithSecret},
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Rotate the secret."""
        requests.nothing(request)
        row = required(request, webhook_id, WRITE)
        row, secret = endpoints.rotate_secret(
            endpoint_id=row.pk, actor=principal.of(request).subject
        )
        return Response(WebhookWithSecret.of(row, secret=secret).model_dump(mode="json"))


class EnableView(APIView):
    """Tell it again."""

    scopes: ClassVar[dict[str, str]] = {"POST": WRITE}
    by_department = True

    @_acting(
        "Enable a webhook: what has waited for it goes out now",
        "enableWebhook",
        {200: WebhookEntry},
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Enable."""
        requests.nothing(request)
        row = required(request, webhook_id, WRITE)
        by = principal.of(request).subject
        return _shown(valid(lambda: endpoints.enable(endpoint_id=row.pk, actor=by)))


class DisableView(APIView):
    """Tell it nothing."""

    scopes: ClassVar[dict[str, str]] = {"POST": WRITE}
    by_department = True

    @_acting(
        "Disable a webhook: it is told of nothing, and what waits for it goes on waiting",
        "disableWebhook",
        {200: WebhookEntry},
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Disable."""
        requests.nothing(request)
        row = required(request, webhook_id, WRITE)
        by = principal.of(request).subject
        return _shown(endpoints.disable(endpoint_id=row.pk, actor=by))


class SendTestView(APIView):
    """Try it out."""

    scopes: ClassVar[dict[str, str]] = {"POST": WRITE}
    by_department = True

    @_acting(
        "Send the event `webhook.test`; its delivery shows what comes of it",
        "testWebhook",
        {202: DeliveryEntry, 409: Problem},
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Send a test."""
        requests.nothing(request)
        row = required(request, webhook_id, WRITE)
        by = principal.of(request).subject
        try:
            sent = deliveries.send_test(endpoint_id=row.pk, actor=by)
        except StateConflictError as exc:
            raise Conflict(exc.message, WebhookEntry.of(row).model_dump(mode="json")) from exc
        place = f"/webhooks/{row.pk}/deliveries/{sent.pk}"
        return Response(_delivery(request, sent), status=202, headers={"Location": place})


class DeliveriesView(APIView):
    """The log of a webhook."""

    scopes: ClassVar[dict[str, str]] = {"GET": READ}
    by_department = True

    @extend_schema(
        tags=["webhooks"],
        operation_id="listDeliveries",
        summary="What a webhook was told, newest first, and what came of it",
        parameters=requests.parameters(DeliveriesQuery),
        responses={200: DeliveryList, **FOUND},
    )
    def get(self, request: Request, webhook_id: str) -> Response:
        """List deliveries."""
        wanted = requests.query(request, DeliveriesQuery)
        row = required(request, webhook_id, READ)
        found = selectors.deliveries(endpoint_id=row.pk, **wanted.model_dump())
        entries = [
            permissions.shown(request, DeliveryEntry.of(one), one.department or None)
            for one in found
        ]
        return page(request, entries, limit=wanted.limit, cursor="before")


class DeliveryView(APIView):
    """One delivery."""

    scopes: ClassVar[dict[str, str]] = {"GET": READ}
    by_department = True

    @extend_schema(
        tags=["webhooks"],
        operation_id="getDelivery",
        summary="A delivery",
        responses={200: DeliveryEntry, **FOUND},
    )
    def get(self, request: Request, webhook_id: str, delivery_id: str) -> Response:
        """Show a delivery."""
        requests.nothing(request)
        row = required(request, webhook_id, READ)
        number = requests.row_id(delivery_id, what="delivery")
        found = selectors.delivery(endpoint_id=row.pk, delivery_id=number)
        return Response(_delivery(request, found))


class ResendView(APIView):
    """Tell it once more."""

    scopes: ClassVar[dict[str, str]] = {"POST": WRITE}
    by_department = True

    @_acting(
        "Send a delivery again, now, under the same `webhook-id`",
        "resendDelivery",
        {202: DeliveryEntry, 409: Problem},
    )
    def post(self, request: Request, webhook_id: str, delivery_id: str) -> Response:
        """Resend."""
        requests.nothing(request)
        row = required(request, webhook_id, WRITE)
        number = requests.row_id(delivery_id, what="delivery")
        by = principal.of(request).subject
        try:
            sent = deliveries.resend(delivery_id=number, endpoint_id=row.pk, actor=by)
        except StateConflictError as exc:
            found = selectors.delivery(endpoint_id=row.pk, delivery_id=number)
            raise Conflict(exc.message, _delivery(request, found)) from exc
        return Response(_delivery(request, sent), status=202)


def required(request: Request, text: str, scope: str) -> WebhookEndpoint:
    """Return the webhook of the path, if the caller holds the scope in its department."""
    number = requests.row_id(text, what="webhook")
    row = selectors.endpoint(endpoint_id=number)
    missing = f"There is no webhook {number}"
    permissions.require(request, scope, row.department or None, missing=missing)
    return row


def valid(act: Callable[[], T]) -> T:
    """Act; a field that is refused is named as it stands in the body."""
    try:
        return act()
    except InputInvalidError as exc:
        errors = [
            ("/" + "/".join(problem["field"].split(".")), problem["reason"])
            for problem in exc.problems
        ]
        raise RequestInvalid(f"Field {exc.message}", errors) from exc


def _shown(row: WebhookEndpoint) -> Response:
    return Response(WebhookEntry.of(row).model_dump(mode="json"))


def _delivery(request: Request, row: WebhookDelivery) -> dict[str, Any]:
    form = permissions.shown(request, DeliveryEntry.of(row), row.department or None)
    return form.model_dump(mode="json")
