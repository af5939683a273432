"""Effects: what steps did outside the database, and the answers where nobody knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.urls import reverse

from engine import effects
from engine.admin.acting import act, actor
from engine.admin.buttons import ButtonAdmin
from engine.admin.reading import badge, moment, run_link
from engine.admin.rights import DepartmentFilter
from engine.models import Effect

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

_DONE = {"confirm": "Confirmed", "retry": "To be called again"}


@admin.register(Effect)
class EffectAdmin(ButtonAdmin):
    """Effects, newest first. Who may resolve dead letters may answer for effects."""

    empty_text = "What steps do outside the database, such as mails, is here."
    read_scope, write_scope = "dead_letters.read", "dead_letters.write"
    department_field = "run__department"
    payload_fields = ("shown_receipt",)
    list_display = [
        "number",
        "shown_state",
        "name",
        "automation",
        "step",
        "step_state",
        "error_code",
        "sent",
        "of_run",
    ]
    list_filter = ["state", DepartmentFilter]
    list_select_related = ["run", "step_run"]
    ordering = ["-id"]
    sortable_by: list[str] = []
    actions = ["confirm_selected", "retry_selected"]
    verbs = _DONE
    fields = [
        "shown_state",
        "name",
        "automation",
        "step",
        "step_state",
        "key",
        "repeats",
        "attempt",
        "error_code",
        "shown_receipt",
        "of_run",
        "planned_at",
        "sent_at",
        "resolved_at",
        "resolved_by",
    ]
    readonly_fields = fields
    change_form_before_template = "engine/admin/effect_acts.html"
    # Forms cannot be nested: the buttons above name these by id.
    change_form_outer_after_template = "engine/admin/effect_forms.html"

    @admin.display(description="#")
    def number(self, row: Effect) -> str:
        """Return the number."""
        return f"#{row.pk}"

    @admin.display(description="State")
    def shown_state(self, row: Effect) -> SafeString:
        """Return the state as a badge."""
        return badge(row.state)

    @admin.display(description="Automation")
    def automation(self, row: Effect) -> str:
        """Return the automation of the run."""
        return row.run.automation

    @admin.display(description="Step")
    def step(self, row: Effect) -> str:
        """Return the step, with its item in a fan-out."""
        return str(row.step_run)

    @admin.display(description="Step is")
    def step_state(self, row: Effect) -> SafeString:
        """Return the state of the step as a badge."""
        return badge(row.step_run.state)

    @admin.display(description="Idempotent")
    def repeats(self, row: Effect) -> str:
        """Return whether it may be called again without asking."""
        return "yes: the other system drops doubles by key" if row.idempotent else "no"

    @admin.display(description="Sent")
    def sent(self, row: Effect) -> str:
        """Return when the call was begun."""
        return moment(row.sent_at)

    @admin.display(description="Receipt")
    def shown_receipt(self, row: Effect) -> str:
        """Return what the other system answered."""
        return "" if row.receipt is None else json.dumps(row.receipt, ensure_ascii=False)

    @admin.display(description="Run")
    def of_run(self, row: Effect) -> SafeString:
        """Return a link to the run."""
        return run_link(row.run_id)

    @admin.action(description="Confirm: it happened", permissions=["act"])
    def confirm_selected(self, request: HttpRequest, queryset: QuerySet[Effect]) -> None:
        """Say of the selected effects that they happened."""
        self._answer(request, "confirm", self.actable(request, queryset))

    @admin.action(description="Retry: it did not happen", permissions=["act"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Effect]) -> None:
        """Say of the selected effects that they did not happen."""
        self._answer(request, "retry", self.actable(request, queryset))

    def _answer(
        self, request: HttpRequest, verb: str, identities: Any, *, receipt: Any = None
    ) -> None:
        by = actor(request)

        def door(pk: int) -> object:
            if verb == "confirm":
                return effects.confirm(effect_id=pk, actor=by, receipt=receipt)
            return effects.retry(effect_id=pk, actor=by)

        act(request, door, identities, done=_DONE[verb])

    def press(self, request: HttpRequest, verb: str, row: Effect) -> str:
        """Do one act and return to the effect's run."""
        try:
            receipt = json.loads(request.POST.get("receipt", "").strip() or "null")
        except (ValueError, RecursionError):
            messages.warning(request, "The receipt must be JSON; nothing was changed.")
            return reverse("admin:engine_effect_change", args=[row.pk])
        self._answer(request, verb, [row.pk], receipt=receipt)
        return reverse("admin:engine_run_change", args=[row.run_id])
