"""The first page: how the business is, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Count
from django.db.models.functions import TruncHour
from django.utils import timezone

from departments import selectors as departments
from engine import dead_letter_selectors, effect_selectors, run_selectors
from engine.admin import rights
from engine.admin.reading import badge, lane_badge
from engine.admin.runs import seconds
from engine.disclosure import HIDDEN, shown
from engine.models import Run, WorkerPresence
from engine.representations import DeadLetterEntry
from engine.states import RunState

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest

    from engine.access.policy import Reach

HOURS = 24
RECENT_RUNS = 8
RECENT_LETTERS = 5
RECENT_QUESTIONS = 5
#: Height of the tallest bar of the day, in percent of the chart.
FULL = 100
_BAD = {RunState.FAILED, RunState.TIMED_OUT}


@dataclass(slots=True)
class Hour:
    """The runs created in one hour, by how they stand now."""

    start: datetime
    good: int = 0
    bad: int = 0
    other: int = 0
    scale: int = 1

    @property
    def total(self) -> int:
        """Return all of them."""
        return self.good + self.bad + self.other

    @property
    def heights(self) -> list[tuple[str, int]]:
        """Return (tone, height in percent) from the top of the bar down."""
        parts = [("bad", self.bad), ("live", self.other), ("good", self.good)]
        return [(tone, max(2, FULL * n // self.scale)) for tone, n in parts if n]


def context(request: HttpRequest, given: dict[str, Any]) -> dict[str, Any]:
    """Add to the index page what an operator wants to know first (unfold's DASHBOARD_CALLBACK)."""
    seen = rights.reach(request, "runs.read")
    if not seen:
        return given
    statuses = departments.departments(only=seen.only)
    now = timezone.now()
    hours = _hours(now, seen)
    letters = rights.reach(request, "dead_letters.read")
    states: dict[str, int] = {}
    for status in statuses:
        for state, number in status.open_runs.items():
            states[state] = states.get(state, 0) + number
    online = WorkerPresence.objects.filter(
        seen_at__gt=now - timedelta(seconds=WorkerPresence.ONLINE_SECONDS)
    )
    good, bad = sum(h.good for h in hours), sum(h.bad for h in hours)
    return {
        **given,
        "title": "Overview",
        "open_runs": sum(states.values()),
        "open_states": [(badge(state), number) for state, number in sorted(states.items())],
        "blocked": states.get(RunState.BLOCKED, 0),
        "dead_letters": sum(
            status.open_dead_letters for status in statuses if status.department.slug in letters
        ),
        "success_rate": f"{FULL * good / (good + bad):.0f} %" if good + bad else "none",
        "good": good,
        "bad": bad,
        # Of the whole installation: for whoever may see the page of workers.
        "workers": list(online.order_by("hostname")) if rights.sees_workers(request) else None,
        "hours": hours,
        "hours_total": sum(hour.total for hour in hours),
        "hours_peak": max((hour.total for hour in hours), default=0),
        "statuses": [(status, lane_badge(paused=status.lane.paused)) for status in statuses],
        "recent": [
            (run, badge(run.state), seconds(run.duration))
            for run in run_selectors.runs(
                limit=RECENT_RUNS, wanted=run_selectors.Wanted(departments=seen.only)
            )
        ],
        "letters": [
            shown(DeadLetterEntry.of(row), rights.policy_of(request), row.department)
            for row in dead_letter_selectors.dead_letters(
                limit=RECENT_LETTERS, state="open", departments=letters.only
            )
        ],
        "questions": effect_selectors.effects(
            limit=RECENT_QUESTIONS, state="unknown", departments=letters.only
        ),
        "hidden": HIDDEN,
    }


def _hours(now: datetime, seen: Reach) -> list[Hour]:
    start = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    hours = {start + timedelta(hours=n): Hour(start + timedelta(hours=n)) for n in range(HOURS)}
    only = seen.only
    rows = (
        # Ids are UUIDv7: their order is that of creation, so the primary key serves the range.
        Run.objects.filter(
            id__gte=first_id(start), **({} if only is None else {"department__in": only})
        )
        .annotate(hour=TruncHour("created_at", tzinfo=start.tzinfo))
        .values("hour", "state")
        .annotate(number=Count("id"))
        .order_by()
    )
    for row in rows:
        hour = hours.get(row["hour"])
        if hour is None:
            continue
        if row["state"] == RunState.SUCCEEDED:
            hour.good += row["number"]
        elif row["state"] in _BAD:
            hour.bad += row["number"]
        else:
            hour.other += row["number"]
    scale = max((hour.total for hour in hours.values()), default=1) or 1
    for hour in hours.values():
        hour.scale = scale
    return list(hours.values())


def first_id(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
