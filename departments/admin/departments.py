"""Departments: what is open in each, and stopping and going on of its work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import reverse

from departments import selectors, services
from departments.models import Department
from engine.admin.acting import act, actor
from engine.admin.buttons import ButtonAdmin
from engine.admin.reading import lane_badge

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString


#: What a button does, and how its success is told.
_DOORS: dict[str, tuple[Callable[..., object], str]] = {
    "pause": (services.pause, "Paused"),
    "resume": (services.resume, "Resumed"),
}


@admin.register(Department)
class DepartmentAdmin(ButtonAdmin):
    """Departments, by slug."""

    empty_text = "Files below departments/catalog declare them; manage.py sync_catalog publishes."
    read_scope, write_scope, department_field = "departments.read", "departments.write", "slug"
    list_display = ["title", "slug", "lane", "open_work", "letters", "declared"]
    ordering = ["slug"]
    fields = ["title", "slug", "purpose", "lane", "open_work", "letters", "declared"]
    readonly_fields = fields
    actions = ["pause_selected", "resume_selected"]
    verbs, key_converter = _DOORS, "path"
    change_form_before_template = "departments/admin/department_acts.html"
    # Forms cannot be nested: the button above names this one by id.
    change_form_outer_after_template = "departments/admin/department_forms.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Department]:
        """Remember each department's status for this request: one query, not one a row."""
        self._statuses = {s.department.slug: s for s in selectors.departments()}
        rows: QuerySet[Department] = super().get_queryset(request)
        return rows

    @admin.display(description="Lane")
    def lane(self, row: Department) -> SafeString:
        """Return whether work of it is sent."""
        return lane_badge(paused=self._statuses[row.slug].lane.paused)

    @admin.display(description="Open runs")
    def open_work(self, row: Department) -> str:
        """Return the open runs by state."""
        found = sorted(self._statuses[row.slug].open_runs.items())
        return ", ".join(f"{number} {state}" for state, number in found) or "none"

    @admin.display(description="Dead letters")
    def letters(self, row: Department) -> int:
        """Return the number of open dead letters."""
        return self._statuses[row.slug].open_dead_letters

    @admin.action(description="Pause: start nothing new", permissions=["act"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Department]) -> None:
        """Pause the selected departments."""
        self._steer(request, services.pause, queryset, done="Paused")

    @admin.action(description="Resume", permissions=["act"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Department]) -> None:
        """Resume the selected departments."""
        self._steer(request, services.resume, queryset, done="Resumed")

    def press(self, request: HttpRequest, verb: str, row: Department) -> str:
        """Pause or resume the department and return to its page."""
        door, done = _DOORS[verb]
        self._steer(request, door, Department.objects.filter(slug=row.slug), done=done)
        return reverse("admin:departments_department_change", args=[row.slug])

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the department with what can be done."""
        found = next((s for s in selectors.departments() if s.department.slug == object_id), None)
        verb = ""
        if found is not None and self.has_act_permission(request, found.department):
            verb = "resume" if found.lane.paused else "pause"
        more = {"verb": verb, **(extra_context or {})}
        response: HttpResponse = super().change_view(request, object_id, form_url, more)
        return response

    def _steer(
        self, request: HttpRequest, door: Any, queryset: QuerySet[Department], *, done: str
    ) -> None:
        by = actor(request)
        slugs = self.actable(request, queryset)
        act(request, lambda slug: door(slug=slug, actor=by), slugs, done=done)
