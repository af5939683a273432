"""Runs: the list, and the page that says how one is, why, and what can be done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Min, Sum
from django.http import Http404
from django.template.response import TemplateResponse
from django.urls import reverse

from engine import definitions, effect_selectors, runs, selectors, why
from engine.access.policy import PAYLOADS
from engine.admin import rights
from engine.admin.acting import act, actor
from engine.admin.buttons import ButtonAdmin
from engine.admin.reading import badge, moment
from engine.disclosure import HIDDEN
from engine.errors import NotFoundError
from engine.models import Artifact, DeadLetter, Run, RunEvent, StepRun
from engine.states import RUN_TERMINAL, RUN_TRANSITIONS, RunState, StepState

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

SHOWN_EVENTS = 100
SHOWN_REASONS = 12
SHOWN_TROUBLES = 50
SHOWN_FILES = 500
#: How often the page of a run that has not ended loads itself again, in seconds.
REFRESH_SECONDS = 3

_DOORS = {"cancel": runs.cancel, "pause": runs.pause, "resume": runs.resume}
_DONE = {"cancel": "Cancelled", "pause": "Paused", "resume": "Resumed"}
#: States in which a run changes without anybody's doing.
_MOVING = {RunState.PENDING, RunState.RUNNING, RunState.CANCELLING}
#: What the page asks of its user, and the scope that answers.
_SEEN_BY = {
    "can_steer": "runs.write",
    "can_resolve": "dead_letters.write",
    "shows_letters": "dead_letters.read",
    "shows_files": "artifacts.read",
    "shows_payloads": PAYLOADS,
}
_TROUBLED = [
    StepState.DEAD,
    StepState.FAILED,
    StepState.RETRY_WAIT,
    StepState.AWAITING,
    StepState.RUNNING,
]


@dataclass(frozen=True, slots=True)
class NodeLine:
    """One node of the graph with the executions of it, summed up."""

    key: str
    mapped: bool
    counts: list[tuple[str, int]]
    attempts: int
    started_at: datetime | None
    took: timedelta | None


def legal_acts(run: Run) -> list[str]:
    """Return what may be done with a run in its state."""
    state = RunState(run.state)
    after = RUN_TRANSITIONS[state]
    acts = []
    if state == RunState.PAUSED:
        acts.append("resume")
    elif RunState.PAUSED in after:
        acts.append("pause")
    if RunState.CANCELLING in after:
        acts.append("cancel")
    return acts


@admin.register(Run)
class RunAdmin(ButtonAdmin):
    """Runs, newest first."""

    empty_text = "Start one by manage.py runs start NAME --watch, or POST /runs."
    read_scope, write_scope, department_field = "runs.read", "runs.write", "department"
    list_display = ["identity", "automation", "shown_state", "created", "took", "by"]
    list_display_links = ["identity"]
    list_filter = ["state", rights.DepartmentFilter]
    list_select_related = ["version"]
    search_fields = ["=id"]
    search_help_text = "The whole id of a run, or the name of an automation"
    ordering = ["-id"]
    sortable_by: list[str] = []
    actions = ["cancel_selected", "pause_selected", "resume_selected"]
    verbs, key_converter = _DOORS, "uuid"

    @admin.display(description="Run")
    def identity(self, run: Run) -> str:
        """Return the end of the id: the beginning is the time and alike for neighbours."""
        return f"…{str(run.pk)[-12:]}"

    @admin.display(description="State")
    def shown_state(self, run: Run) -> SafeString:
        """Return the state as a badge."""
        return badge(run.state)

    @admin.display(description="Created")
    def created(self, run: Run) -> str:
        """Return when it was asked for."""
        return moment(run.created_at)

    @admin.display(description="Took")
    def took(self, run: Run) -> str:
        """Return how long it took."""
        return seconds(run.duration)

    @admin.display(description="Started by")
    def by(self, run: Run) -> str:
        """Return who asked for it."""
        return run.created_by or run.trigger

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        queryset: QuerySet[Run],
        search_term: str,
    ) -> tuple[QuerySet[Run], bool]:
        """Find by id or by automation: both have an index; nothing else is looked through."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            return queryset.filter(automation=term.replace("\x00", "")), False

    @admin.action(description="Cancel", permissions=["act"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Cancel the selected runs."""
        self._steer(request, "cancel", self.actable(request, queryset))

    @admin.action(description="Pause", permissions=["act"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Pause the selected runs."""
        self._steer(request, "pause", self.actable(request, queryset))

    @admin.action(description="Resume", permissions=["act"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Resume the selected runs."""
        self._steer(request, "resume", self.actable(request, queryset))

    def _steer(self, request: HttpRequest, verb: str, identities: Any) -> None:
        door = _DOORS[verb]
        by = actor(request)
        act(request, lambda pk: door(run_id=pk, actor=by), identities, done=_DONE[verb])

    def press(self, request: HttpRequest, verb: str, row: Run) -> str:
        """Do one act and return to the run."""
        self._steer(request, verb, [row.pk])
        return reverse("admin:engine_run_change", args=[row.pk])

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",  # noqa: ARG002 - Django's signature
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the run."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            run = selectors.run(run_id=UUID(object_id))
        except (ValueError, NotFoundError):
            raise Http404 from None
        if not self.has_view_permission(request, run):
            raise Http404
        seen = {
            name: rights.may(request, scope, run.department) for name, scope in _SEEN_BY.items()
        }
        return TemplateResponse(
            request,
            "engine/admin/run.html",
            {
                **self.admin_site.each_context(request),
                **page(run),
                **seen,
                "hidden": HIDDEN,
                "title": run.automation,
                "opts": self.model._meta,  # noqa: SLF001 - Django's documented attribute
                **(extra_context or {}),
            },
        )


def page(run: Run) -> dict[str, Any]:
    """Return what the page of a run shows; every query is bounded."""
    ended = run.state in RUN_TERMINAL
    output = selectors.output_of(run)
    results, by_products = files(run)
    return {
        "run": run,
        "state_badge": badge(run.state),
        "took": seconds(run.duration),
        "progress": selectors.progress(run_id=run.pk),
        "refresh": REFRESH_SECONDS if run.state in _MOVING else None,
        "acts": legal_acts(run),
        "nodes": node_lines(run),
        "troubles": [
            (row, badge(row.state))
            for row in StepRun.objects.filter(run=run, state__in=_TROUBLED).order_by(
                selectors.LAST_OF_ONE_RUN
            )[:SHOWN_TROUBLES]
        ],
        "why": None if ended else why.explain(run_id=run.pk, limit=SHOWN_REASONS),
        "letters": [
            (row, badge(row.state))
            for row in DeadLetter.objects.filter(run=run).order_by("-id")[:SHOWN_TROUBLES]
        ],
        "questions": effect_selectors.effects(limit=SHOWN_TROUBLES, state="unknown", run_id=run.pk),
        "results": results,
        "by_products": by_products,
        "events": list(
            RunEvent.objects.filter(run=run)
            .select_related("step_run")
            .order_by("-id")[:SHOWN_EVENTS]
        ),
        "input_json": json.dumps(run.input, indent=2, ensure_ascii=False),
        "output_json": json.dumps(output, indent=2, ensure_ascii=False) if output else "",
    }


def files(run: Run) -> tuple[list[Artifact], list[Artifact]]:
    """Return the files of the last steps, which people want, and those made on the way."""
    last = set(definitions.graph(run.version_id).sinks)
    results: list[Artifact] = []
    by_products: list[Artifact] = []
    rows = Artifact.objects.filter(run=run).select_related("step_run").order_by("created_at")
    for row in rows[:SHOWN_FILES]:
        made_by = row.step_run.key if row.step_run else ""
        (results if made_by in last else by_products).append(row)
    return results, by_products


def node_lines(run: Run) -> list[NodeLine]:
    """Return one line per node of the graph, in the order in which they run."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in (
        StepRun.objects.filter(run=run)
        .values("key", "state")
        .annotate(
            number=Count("id"),
            tries=Sum("attempt"),
            first=Min("started_at"),
            last=Max("finished_at"),
        )
        .order_by("key", "state")
    ):
        found.setdefault(row["key"], []).append(dict(row))
    lines = []
    for node in definitions.graph(run.version_id).topological:
        rows = found.get(node.key, [])
        first = min((row["first"] for row in rows if row["first"]), default=None)
        last = max((row["last"] for row in rows if row["last"]), default=None)
        lines.append(
            NodeLine(
                key=node.key,
                mapped=node.mapped,
                counts=[(badge(row["state"]), row["number"]) for row in rows],
                attempts=sum(row["tries"] for row in rows),
                started_at=first,
                took=last - first if first and last else None,
            )
        )
    return lines


def seconds(duration: timedelta | None) -> str:
    """Return a duration for people."""
    if duration is None:
        return ""
    total = duration.total_seconds()
    if total < 60:  # noqa: PLR2004 - a minute
        return f"{total:.1f} s"
    minutes, rest = divmod(int(total), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
