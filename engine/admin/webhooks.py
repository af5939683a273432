"""Webhooks: who is told of events, the log of what they were told, and who may start what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html

from engine.admin import rights
from engine.admin.acting import act, actor
from engine.admin.buttons import ButtonAdmin
from engine.admin.reading import badge, moment, run_link
from engine.admin.rights import DepartmentFilter
from engine.models import IncomingHook, WebhookDelivery, WebhookEndpoint
from engine.webhooks import deliveries, endpoints, incoming

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

READ, WRITE = "webhooks.read", "webhooks.write"
#: Button → what is said when it was done.
_DONE = {"enable": "Enabled", "disable": "Disabled", "test": "The test is on its way"}


def _door(verb: str, by: str) -> Callable[[int], object]:
    if verb == "test":
        return lambda pk: deliveries.send_test(endpoint_id=pk, actor=by)
    chosen = endpoints.enable if verb == "enable" else endpoints.disable
    return lambda pk: chosen(endpoint_id=pk, actor=by)


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ButtonAdmin):
    """Endpoints, newest first. They are made by API or command, which show the secret once."""

    read_scope, write_scope = READ, WRITE
    department_field = "department"
    empty_text = (
        "One tells another system of events: manage.py webhooks add URL, or POST /webhooks."
    )
    list_display = [
        "number",
        "state",
        "address",
        "events",
        "of_department",
        "failing",
        "description",
    ]
    list_filter = ["enabled", DepartmentFilter]
    ordering = ["-id"]
    sortable_by: list[str] = []
    actions = ["enable_selected", "disable_selected"]
    verbs = _DONE
    fields = [
        "state",
        "disabled_reason",
        "address",
        "description",
        "events",
        "of_department",
        "failing",
        "log_link",
        "old_secret_until",
        "created_at",
        "created_by",
    ]
    readonly_fields = fields
    change_form_before_template = "engine/admin/webhook_acts.html"
    change_form_outer_after_template = "engine/admin/webhook_forms.html"

    @admin.display(description="#")
    def number(self, row: WebhookEndpoint) -> str:
        """Return the number."""
        return f"#{row.pk}"

    @admin.display(description="State")
    def state(self, row: WebhookEndpoint) -> SafeString:
        """Return whether it is told, as a badge."""
        if not row.enabled:
            return badge("paused", text="disabled")
        return badge("failed", text="failing") if row.failures else badge("succeeded", text="on")

    @admin.display(description="Address")
    def address(self, row: WebhookEndpoint) -> str:
        """Return where it is told."""
        return row.url

    @admin.display(description="Events")
    def events(self, row: WebhookEndpoint) -> str:
        """Return what it is told of."""
        return ", ".join(row.event_types) or "all"

    @admin.display(description="Department")
    def of_department(self, row: WebhookEndpoint) -> str:
        """Return whose events it is told of."""
        return row.department or "all"

    @admin.display(description="Failing")
    def failing(self, row: WebhookEndpoint) -> str:
        """Return since when nothing has reached it."""
        if row.failing_since is None:
            return ""
        return f"{row.failures} attempts since {moment(row.failing_since)}"

    @admin.display(description="Log")
    def log_link(self, row: WebhookEndpoint) -> SafeString:
        """Return a link to its deliveries."""
        address = reverse("admin:engine_webhookdelivery_changelist")
        return format_html(
            '<a class="abe-link" href="{}?webhook={}">Deliveries</a>', address, row.pk
        )

    @admin.action(description="Enable: what has waited goes out now", permissions=["act"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        """Enable the selected endpoints."""
        self._steer(request, "enable", self.actable(request, queryset))

    @admin.action(description="Disable: told of nothing", permissions=["act"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        """Disable the selected endpoints."""
        self._steer(request, "disable", self.actable(request, queryset))

    @staticmethod
    def _steer(request: HttpRequest, verb: str, identities: list[int]) -> None:
        act(request, _door(verb, actor(request)), identities, done=_DONE[verb])

    def press(self, request: HttpRequest, verb: str, row: WebhookEndpoint) -> str:
        """Do one act and return to the endpoint."""
        self._steer(request, verb, [row.pk])
        return reverse("admin:engine_webhookendpoint_change", args=[row.pk])


class WebhookFilter(admin.SimpleListFilter):
    """Filter by endpoint; offers those that the user reaches."""

    title = "webhook"
    parameter_name = "webhook"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        """Return the endpoints on offer."""
        held = rights.reach(request, READ)
        rows = WebhookEndpoint.objects.order_by("-id")[:100]
        return [
            (str(row.pk), f"#{row.pk} {row.url[:60]}") for row in rows if row.department in held
        ]

    def queryset(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        queryset: QuerySet[WebhookDelivery],
    ) -> QuerySet[WebhookDelivery]:
        """Return the deliveries of the endpoint that is chosen."""
        chosen = self.value()
        if not chosen:
            return queryset
        on_offer = {key for key, _text in self.lookup_choices}
        return queryset.filter(endpoint=int(chosen)) if chosen in on_offer else queryset.none()


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ButtonAdmin):
    """The log of deliveries, newest first."""

    read_scope, write_scope = READ, WRITE
    department_field = "endpoint__department"
    empty_text = "What webhooks were told, and what came of it, is here."
    payload_fields = ("excerpt", "body")
    list_display = [
        "number",
        "shown_status",
        "event_type",
        "to",
        "answer",
        "attempt",
        "attempted",
        "next_attempt",
        "of_run",
    ]
    list_filter = ["status", WebhookFilter, DepartmentFilter]
    list_select_related = ["endpoint"]
    ordering = ["-id"]
    sortable_by: list[str] = []
    actions = ["resend_selected"]
    verbs = ("resend",)
    change_form_before_template = "engine/admin/delivery_acts.html"
    change_form_outer_after_template = "engine/admin/delivery_forms.html"
    fields = [
        "shown_status",
        "event_type",
        "to",
        "message_id",
        "event_id",
        "of_run",
        "answer",
        "excerpt",
        "attempt",
        "took",
        "attempted",
        "next_attempt",
        "finished_at",
        "created_at",
        "body",
    ]
    readonly_fields = fields

    @admin.display(description="#")
    def number(self, row: WebhookDelivery) -> str:
        """Return the number."""
        return f"#{row.pk}"

    @admin.display(description="Status")
    def shown_status(self, row: WebhookDelivery) -> SafeString:
        """Return the status as a badge."""
        tone = {"delivered": "succeeded", "failed": "failed"}.get(row.status, "queued")
        if row.status == "pending" and row.error_code:
            tone = "retry_wait"
        return badge(tone, text=row.status)

    @admin.display(description="To")
    def to(self, row: WebhookDelivery) -> SafeString:
        """Return a link to the endpoint."""
        address = reverse("admin:engine_webhookendpoint_change", args=[row.endpoint_id])
        return format_html(
            '<a class="abe-link" href="{}">#{} {}</a>',
            address,
            row.endpoint_id,
            row.endpoint.url[:60],
        )

    @admin.display(description="Answer")
    def answer(self, row: WebhookDelivery) -> str:
        """Return what came of the latest attempt."""
        return " ".join(filter(None, [str(row.response_code or ""), row.error_code]))

    @admin.display(description="Took")
    def took(self, row: WebhookDelivery) -> str:
        """Return how long the latest attempt took."""
        return "" if row.duration_ms is None else f"{row.duration_ms} ms"

    @admin.display(description="Attempted")
    def attempted(self, row: WebhookDelivery) -> str:
        """Return when it was last tried."""
        return moment(row.attempted_at)

    @admin.display(description="Next attempt")
    def next_attempt(self, row: WebhookDelivery) -> str:
        """Return when it is tried again."""
        if row.status != "pending":
            return ""
        return moment(row.next_at) if row.endpoint.enabled else "when the webhook is enabled"

    @admin.display(description="Run")
    def of_run(self, row: WebhookDelivery) -> SafeString | str:
        """Return a link to the run."""
        return run_link(row.run_id) if row.run_id else ""

    @admin.display(description="Body")
    def body(self, row: WebhookDelivery) -> SafeString:
        """Return what is sent."""
        text = json.dumps(row.payload, indent=2, ensure_ascii=False)
        return format_html('<pre class="abe-code">{}</pre>', text)

    @admin.action(description="Send again, now", permissions=["act"])
    def resend_selected(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Send the selected deliveries again."""
        rows = WebhookDelivery.objects.filter(pk__in=self.actable(request, queryset))
        self._resend(request, dict(rows.values_list("pk", "endpoint")))

    def press(self, request: HttpRequest, verb: str, row: WebhookDelivery) -> str:  # noqa: ARG002 - one verb
        """Send it again and return to it."""
        self._resend(request, {row.pk: row.endpoint_id})
        return reverse("admin:engine_webhookdelivery_change", args=[row.pk])

    @staticmethod
    def _resend(request: HttpRequest, endpoint_of: dict[int, int]) -> None:
        by = actor(request)

        def door(pk: int) -> object:
            return deliveries.resend(delivery_id=pk, endpoint_id=endpoint_of[pk], actor=by)

        act(request, door, endpoint_of, done="On the way again")


@admin.register(IncomingHook)
class IncomingHookAdmin(ButtonAdmin):
    """Incoming hooks, newest first. API and command make them, and show the address once."""

    read_scope, write_scope = READ, WRITE
    department_field = "department"
    empty_text = "One is an address that starts an automation: manage.py hooks add AUTOMATION."
    list_display = ["number", "state", "automation", "department", "signed", "body", "description"]
    list_filter = ["enabled", DepartmentFilter]
    ordering = ["-id"]
    sortable_by: list[str] = []
    actions = ["enable_selected", "disable_selected"]
    verbs = ("enable", "disable")
    change_form_before_template = "engine/admin/hook_acts.html"
    change_form_outer_after_template = "engine/admin/hook_forms.html"
    fields = [
        "state",
        "automation",
        "department",
        "description",
        "signed",
        "body",
        "old_secret_until",
        "created_at",
        "created_by",
    ]
    readonly_fields = fields

    @admin.display(description="#")
    def number(self, row: IncomingHook) -> str:
        """Return the number."""
        return f"#{row.pk}"

    @admin.display(description="State")
    def state(self, row: IncomingHook) -> SafeString:
        """Return whether calls start runs, as a badge."""
        return badge("succeeded", text="on") if row.enabled else badge("paused", text="disabled")

    @admin.display(description="Signed")
    def signed(self, row: IncomingHook) -> str:
        """Return whether callers must sign."""
        return "yes" if row.secret else "no: who knows the address may call"

    @admin.display(description="Body")
    def body(self, row: IncomingHook) -> str:
        """Return where the body goes."""
        return f"the input's field {row.input_field}" if row.input_field else "the input"

    @admin.action(description="Enable: calls start runs", permissions=["act"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[IncomingHook]) -> None:
        """Enable the selected hooks."""
        self._switch(request, self.actable(request, queryset), enabled=True)

    @admin.action(description="Disable: answer as if nothing were there", permissions=["act"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[IncomingHook]) -> None:
        """Disable the selected hooks."""
        self._switch(request, self.actable(request, queryset), enabled=False)

    def press(self, request: HttpRequest, verb: str, row: IncomingHook) -> str:
        """Do one act and return to the hook."""
        self._switch(request, [row.pk], enabled=verb == "enable")
        return reverse("admin:engine_incominghook_change", args=[row.pk])

    @staticmethod
    def _switch(request: HttpRequest, identities: list[int], *, enabled: bool) -> None:
        by = actor(request)
        act(
            request,
            lambda pk: incoming.change(hook_id=pk, actor=by, enabled=enabled),
            identities,
            done="Enabled" if enabled else "Disabled",
        )
