"""Schedules: what starts by itself, when it does next, and why it could not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import BooleanField, ExpressionWrapper, Q, Value
from django.forms.fields import InvalidJSONInput
from django.http import HttpResponseRedirect
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin

from departments import schedule_rules, schedules, selectors
from departments.models import Automation, Schedule
from engine import input_files
from engine.access.policy import PAYLOADS
from engine.admin import rights
from engine.admin.acting import act, actor
from engine.admin.reading import badge, moment
from engine.disclosure import HIDDEN
from engine.errors import EngineError, InputInvalidError

if TYPE_CHECKING:
    from django.db.models import ForeignKey, Model, QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from engine.access.policy import Policy

#: Fire times shown on a schedule's page.
SHOWN_TIMES = 5
OWN_FIELDS = ["name", "automation", "cron", "time_zone", "catch_up", "catch_up_limit", "input"]


class InputField(forms.JSONField):
    """Refuse what Django's field raises on or cannot show again, and show what was typed."""

    def to_python(self, value: Any) -> Any:
        """Return the JSON value; too deep, too long a number or half a surrogate is no JSON."""
        try:
            found = super().to_python(value)
            json.dumps(found, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from None
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return what was typed, as it was."""
        return initial if self.disabled else InvalidJSONInput(data or "")


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg] # not subscriptable at run time
    """What an operator may set; refusals of the domain stand at their fields."""

    class Meta:
        model = Schedule
        fields = [*OWN_FIELDS, "enabled"]
        field_classes = {"input": InputField}
        help_texts = {
            "name": "Letters, digits, hyphens, underscores",
            "cron": "minute hour day month weekday, e.g. 30 7 * * MON-FRI",
            "input": "JSON object, by the automation's input",
            "enabled": "Enabling counts from now: nothing of before is made up for",
        }

    #: Who fills it in, and under which name: files in the input must be theirs to read.
    reader: Policy
    uploader: str

    def clean(self) -> dict[str, Any]:
        """Ask the domain; what Django has refused already is not said twice."""
        values: dict[str, Any] = super().clean() or {}
        if values.get("input") is None and "input" not in self.errors:
            values["input"] = {}
        candidate = Schedule(**{field: values[field] for field in OWN_FIELDS if field in values})
        if "automation" not in self.fields:
            candidate.automation = self.instance.automation
        try:
            schedule_rules.check(candidate)
            # Not `changed_data`: there the browser says what stood in the field before.
            if values.get("input") != self.instance.input:
                self._require_readable(values.get("input"))
        except InputInvalidError as exc:
            for problem in exc.problems:
                field, _, inner = problem["field"].partition(".")
                if field in self.fields and field not in self.errors:
                    self._refused(field, problem, inner)
        return values

    def _require_readable(self, given: Any) -> None:
        try:
            input_files.require_readable(given, reader=self.reader, uploader=self.uploader)
        except InputInvalidError as exc:
            below = [{**one, "field": f"input.{one['field']}"} for one in exc.problems]
            raise InputInvalidError(exc.message, problems=below) from exc

    def _refused(self, field: str, problem: dict[str, str], inner: str) -> None:
        self.add_error(field, f"{inner}: {problem['reason']}" if inner else problem["reason"])


@admin.register(Schedule)
class ScheduleAdmin(rights.ByPolicy, ModelAdmin):  # type: ignore[misc] # unfold ships no types
    """Schedules, by name."""

    empty_text = "A schedule starts an automation by itself, at the times of a cron expression."
    read_scope, write_scope = "schedules.read", "schedules.write"
    department_field = "automation__department_id"
    form = ScheduleForm
    list_display = [
        "name",
        "automation",
        "expression",
        "time_zone",
        "next_fire",
        "last_fire",
        "state",
    ]
    list_filter = ["enabled", rights.DepartmentFilter]
    list_filter_submit = False
    list_select_related = ["automation"]
    search_fields = ["name", "automation__name"]
    ordering = ["name"]
    actions = ["enable_selected", "disable_selected"]
    compressed_fields = True
    readonly_fields = ["state", "next_times", "last_fire", "input_form", "payload"]

    def get_form(
        self,
        request: HttpRequest,
        obj: Schedule | None = None,
        change: bool = False,  # noqa: FBT001, FBT002 - Django's signature
        **kwargs: Any,
    ) -> type[ScheduleForm]:
        """Tell the form who fills it in; Django makes a class for each request."""
        found: type[ScheduleForm] = super().get_form(request, obj, change, **kwargs)
        found.reader, found.uploader = rights.policy_of(request), actor(request)
        return found

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        """Note on each row whether its payload may be shown: the columns do not know who asks."""
        seen = rights.reach(request, PAYLOADS)
        shows: Any = Value(seen.everywhere)
        if seen.slugs:
            shows = Q(automation__department_id__in=seen.slugs)
        rows: QuerySet[Schedule] = super().get_queryset(request)
        return rows.annotate(shows_payload=ExpressionWrapper(shows, BooleanField()))

    @admin.display(description="Payload")
    def payload(self, row: Schedule) -> str:  # noqa: ARG002 - Django's signature
        """Return what stands in place of payload."""
        return HIDDEN

    @admin.display(description="Cron")
    def expression(self, row: Schedule) -> str:
        """Return the expression in one line."""
        return row.cron.replace(" ", "\N{NO-BREAK SPACE}")

    @admin.display(description="Next", ordering="next_fire_at")
    def next_fire(self, row: Schedule) -> str:
        """Return the next fire time."""
        return moment(row.next_fire_at)

    @admin.display(description="Last fired", ordering="last_fire_at")
    def last_fire(self, row: Schedule) -> str:
        """Return the fire time of the last run it started."""
        return moment(row.last_fire_at) or "never"

    @admin.display(description="State")
    def state(self, row: Schedule) -> SafeString:
        """Return whether it fires, and what keeps it from doing so."""
        if not row.enabled:
            return badge("paused", text="disabled")
        if row.error:
            shown = row.error if getattr(row, "shows_payload", False) else HIDDEN
            return format_html("{} {}", badge("failed", text="failing"), shown)
        return badge("succeeded", text="enabled")

    @admin.display(description="Next fire times")
    def next_times(self, row: Schedule) -> SafeString | str:
        """Return when it fires next, by the clocks of its zone."""
        times = selectors.fire_times_ahead(row, number=SHOWN_TIMES)
        lines = format_html_join(
            "",
            "<li>{} <small>{}</small></li>",
            ((f"{at:%a %Y-%m-%d %H:%M}", at.tzname()) for at in times),
        )
        return format_html('<ul class="abe-list">{}</ul>', lines) if times else "none"

    @admin.display(description="Its input takes (JSON Schema)")
    def input_form(self, row: Schedule) -> SafeString:
        """Return the schema of the automation's input."""
        schema = row.automation.current_version.input_schema
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        return format_html('<pre class="abe-code">{}</pre>', text)

    def get_fieldsets(self, request: HttpRequest, obj: Schedule | None = None) -> list[Any]:
        """Show what cannot be known of a new one only once it is there."""
        fields: list[Any] = [
            ("name", "automation"), ("cron", "time_zone"), ("catch_up", "catch_up_limit"),
            "input", "enabled",
        ]  # fmt: skip
        if obj and not rights.sees_payloads(request, self.department_of(obj)):
            fields[fields.index("input")] = "payload"
        known = ["state", "next_times", "last_fire", "input_form"]
        return [(None, {"fields": [*fields, *(known if obj else [])]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Schedule | None = None) -> list[str]:  # noqa: ARG002
        """Fix the automation of a schedule that is there: its runs' keys are unique in it."""
        return [*self.readonly_fields, *(["automation"] if obj else [])]

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        """Offer the automations that the code still declares, of departments the user steers."""
        offered = Automation.objects.filter(declared=True).order_by("name")
        only = rights.reach(request, self.write_scope).only
        kwargs["queryset"] = offered if only is None else offered.filter(department_id__in=only)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Tell whether the user may change schedules, which takes seeing what they start."""
        if not self.has_act_permission(request, obj):
            return False
        return obj is None or rights.sees_payloads(request, self.department_of(obj))

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Allow it to whoever may change them: one scope for all of it, as in the API."""
        return self.has_change_permission(request)

    has_delete_permission = has_change_permission

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:  # noqa: FBT001
        """Create or change through the door; the form's instance learns what became of it."""
        values = {field: form.cleaned_data[field] for field in OWN_FIELDS if field in form.fields}
        by = actor(request)
        if not change:
            automation = values.pop("automation").name
            enabled = form.cleaned_data["enabled"]
            made = schedules.create(**values, automation=automation, enabled=enabled, actor=by)
            obj.pk = made.pk
            return
        values.pop("automation", None)
        rename = values.pop("name")
        schedules.change(name=form.initial["name"], rename=rename, **values, actor=by)
        door = schedules.enable if form.cleaned_data["enabled"] else schedules.disable
        door(name=obj.name, actor=by)

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Remove through the door."""
        schedules.remove(name=obj.name, actor=actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Remove each through the door."""
        for row in queryset.filter(pk__in=self.actable(request, queryset)):
            self.delete_model(request, row)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Say what the domain refused after all: somebody else was faster."""
        try:
            response: HttpResponse = super().changeform_view(request, *args, **kwargs)
        except EngineError as exc:
            messages.error(request, exc.message)
            return HttpResponseRedirect(request.get_full_path())
        return response

    @admin.action(description="Enable: fire again, from now on", permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Enable the selected schedules."""
        self._steer(request, schedules.enable, queryset, done="Enabled")

    @admin.action(description="Disable", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Disable the selected schedules."""
        self._steer(request, schedules.disable, queryset, done="Disabled")

    def _steer(
        self, request: HttpRequest, door: Any, queryset: QuerySet[Schedule], *, done: str
    ) -> None:
        by = actor(request)
        chosen = queryset.filter(pk__in=self.actable(request, queryset))
        names = list(chosen.values_list("name", flat=True))
        act(request, lambda name: door(name=name, actor=by), names, done=done)
