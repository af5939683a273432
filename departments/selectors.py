"""Reads about departments and automations; nothing here writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Count

from departments import fire_times
from departments.models import Automation, Department, Schedule
from engine import registry
from engine.errors import NotFoundError
from engine.models import AutomationVersion, DeadLetter, Lane, Run
from engine.states import RUN_TERMINAL, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

OPEN_STATES = [state.value for state in RunState if state not in RUN_TERMINAL]


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartmentStatus:
    """A department with its lane and what is open in it right now."""

    department: Department
    lane: Lane
    #: Runs that have not ended, by state; states without a run are absent.
    open_runs: dict[str, int] = field(default_factory=dict)
    open_dead_letters: int = 0
    automations: int = 0

    @property
    def total_open(self) -> int:
        """Return how many runs have not ended."""
        return sum(self.open_runs.values())


def queues() -> list[str]:
    """Return the queue of every declared department, sorted; needs no database."""
    return sorted(registry.departments)


def departments(*, only: Sequence[str] | None = None) -> list[DepartmentStatus]:
    """Return every department ever declared, by slug, with its lane and its open work.

    only: leave out all but these; None leaves out nothing.
    """
    rows = Department.objects.order_by("slug")
    return _statuses(rows if only is None else rows.filter(slug__in=only))


def department(*, slug: str) -> DepartmentStatus:
    """Return one department; raises NotFoundError."""
    found = _statuses(Department.objects.filter(slug=slug))
    if not found:
        raise NotFoundError(f"There is no department {slug!r}.", slug=slug)
    return found[0]


def _statuses(rows: Iterable[Department]) -> list[DepartmentStatus]:
    lanes = {lane.slug: lane for lane in Lane.objects.all()}
    open_runs: dict[str, dict[str, int]] = {}
    # Served by the index run_by_state: costs what is open, not what ever ran.
    for row in (
        Run.objects.filter(state__in=OPEN_STATES)
        .values("department", "state")
        .annotate(number=Count("id"))
        .order_by()
    ):
        open_runs.setdefault(row["department"], {})[row["state"]] = row["number"]
    dead = dict(
        DeadLetter.objects.filter(state="open")
        .values_list("department")
        .annotate(number=Count("id"))
        .order_by()
    )
    owned = dict(
        Automation.objects.filter(declared=True)
        .values_list("department_id")
        .annotate(number=Count("name"))
        .order_by()
    )
    return [
        DepartmentStatus(
            department=row,
            lane=lanes.get(row.slug) or Lane(slug=row.slug, queue=row.slug),
            open_runs=open_runs.get(row.slug, {}),
            open_dead_letters=dead.get(row.slug, 0),
            automations=owned.get(row.slug, 0),
        )
        for row in rows
    ]


def automations(
    *, department: str | None = None, only: Sequence[str] | None = None
) -> list[Automation]:
    """Return every automation ever declared, by name, each with its current version.

    only: leave out those of all departments but these; None leaves out nothing.
    """
    rows = Automation.objects.select_related("current_version").order_by("name")
    if only is not None:
        rows = rows.filter(department_id__in=only)
    return list(rows.filter(department_id=department) if department else rows)


def automation(*, name: str) -> Automation:
    """Return one automation with its current version; raises NotFoundError."""
    found = Automation.objects.select_related("current_version").filter(name=name).first()
    if found is None:
        raise NotFoundError(f"There is no automation {name!r}.", name=name)
    return found


def versions(*, name: str) -> list[AutomationVersion]:
    """Return the versions of an automation, newest first."""
    return list(AutomationVersion.objects.filter(automation=name).order_by("-version"))


def schedules() -> list[Schedule]:
    """Return every schedule, by name."""
    return list(Schedule.objects.order_by("name"))


def schedule(*, name: str, lock: bool = False) -> Schedule:
    """Return one schedule, its row locked if asked for; raises NotFoundError."""
    rows = Schedule.objects.select_for_update(no_key=True) if lock else Schedule.objects.all()
    found = rows.filter(name=name).first()
    if found is None:
        raise NotFoundError(f"There is no schedule {name!r}.", name=name)
    return found


def fire_times_ahead(schedule: Schedule, *, number: int) -> list[datetime]:
    """Return when a schedule fires next, in its own zone; nothing while it is disabled."""
    if not schedule.enabled or schedule.next_fire_at is None:
        return []
    return fire_times.upcoming(
        cron=schedule.cron,
        time_zone=schedule.time_zone,
        after=schedule.next_fire_at - timedelta(microseconds=1),
        number=number,
    )
