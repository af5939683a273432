"""Dead letters: what failed for good, and the two things to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import reverse

from engine import dead_letters
from engine.admin.acting import act, actor
from engine.admin.buttons import ButtonAdmin
from engine.admin.reading import badge, moment, run_link
from engine.admin.rights import DepartmentFilter
from engine.graph import UNMAPPED
from engine.models import DeadLetter

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

_DOORS = {"requeue": dead_letters.requeue, "discard": dead_letters.discard}
_DONE = {"requeue": "Requeued", "discard": "Discarded"}


@admin.register(DeadLetter)
class DeadLetterAdmin(ButtonAdmin):
    """Dead letters, newest first."""

    empty_text = "A step that fails for good is here until somebody requeues or discards it."
    read_scope, write_scope = "dead_letters.read", "dead_letters.write"
    department_field = "department"
    payload_fields = ("error_message",)
    list_display = [
        "number",
        "shown_state",
        "automation",
        "step",
        "error_code",
        "attempts",
        "created",
        "of_run",
    ]
    list_filter = ["state", DepartmentFilter]
    search_fields = ["automation"]
    search_help_text = "The name of an automation"
    ordering = ["-id"]
    sortable_by: list[str] = []
    actions = ["requeue_selected", "discard_selected"]
    verbs = _DOORS
    fields = [
        "shown_state",
        "automation",
        "step",
        "item",
        "error_code",
        "error_message",
        "attempts",
        "crashes",
        "of_run",
        "created_at",
        "resolved_at",
        "resolved_by",
    ]
    readonly_fields = fields
    change_form_before_template = "engine/admin/dead_letter_acts.html"
    # Forms cannot be nested: the buttons above name these by id.
    change_form_outer_after_template = "engine/admin/dead_letter_forms.html"

    @admin.display(description="#")
    def number(self, row: DeadLetter) -> str:
        """Return the number."""
        return f"#{row.pk}"

    @admin.display(description="State")
    def shown_state(self, row: DeadLetter) -> SafeString:
        """Return the state as a badge."""
        return badge(row.state)

    @admin.display(description="Item of a fan-out")
    def item(self, row: DeadLetter) -> str:
        """Return which item of a fan-out it was."""
        return "" if row.map_index == UNMAPPED else str(row.map_index)

    @admin.display(description="Created")
    def created(self, row: DeadLetter) -> str:
        """Return when the step was given up."""
        return moment(row.created_at)

    @admin.display(description="Run")
    def of_run(self, row: DeadLetter) -> SafeString:
        """Return a link to the run."""
        return run_link(row.run_id)

    @admin.action(description="Requeue", permissions=["act"])
    def requeue_selected(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Requeue the selected dead letters."""
        self._resolve(request, "requeue", self.actable(request, queryset))

    @admin.action(description="Discard", permissions=["act"])
    def discard_selected(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Discard the selected dead letters."""
        self._resolve(request, "discard", self.actable(request, queryset))

    def _resolve(self, request: HttpRequest, verb: str, identities: Any) -> None:
        door = _DOORS[verb]
        by = actor(request)
        act(request, lambda pk: door(dead_letter_id=pk, actor=by), identities, done=_DONE[verb])

    def press(self, request: HttpRequest, verb: str, row: DeadLetter) -> str:
        """Do one act and return to the dead letter's run."""
        self._resolve(request, verb, [row.pk])
        return reverse("admin:engine_run_change", args=[row.run_id])
