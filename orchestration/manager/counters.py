"""What the manager counts: how runs end, and how long it takes to plan one.

A run's end is written with an event for the outside, whoever ends it: a worker, web, a command. The
manager relays each event once, so that the end is counted although its process may be gone by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from engine import registry
from engine.models import Run
from engine.states import RUN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.models import OutboxEvent

#: Also what an event calls them.
RUN_LABELS = ("department", "automation", "status")
RUNS = Counter(
    "automation_runs_total",
    "Runs that ended, by how: succeeded, failed, cancelled, timed_out",
    RUN_LABELS,
)
RUN_SECONDS = Histogram(
    "automation_run_duration_seconds",
    "From the beginning of a run's first step to its end",
    ["department", "automation"],
    buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0),
)
PLANNING = Histogram(
    "manager_planning_duration_seconds",
    "From a request in automation.events, as it is handled, to its planned and committed run",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
ENDED = frozenset({"run.completed", "run.failed", "run.cancelled"})


def prepare() -> None:
    """Show every automation from the start: no increase is seen in what was never shown."""
    for declared in registry.automations.values():
        for status in sorted(RUN_TERMINAL):
            RUNS.labels(declared.department, declared.name, status.value)
        RUN_SECONDS.labels(declared.department, declared.name)


def count_ended(events: Iterable[OutboxEvent]) -> None:
    """Count the runs that have ended by these events; one read of the runs, by their keys."""
    ended = [event for event in events if event.event_type in ENDED and event.run_id is not None]
    if not ended:
        return
    for event in ended:
        words = event.data
        RUNS.labels(*(str(words.get(name, "")) for name in RUN_LABELS)).inc()
    found = Run.objects.only("department", "automation", "created_at", "started_at", "finished_at")
    for run in found.filter(pk__in={event.run_id for event in ended}):
        if run.duration is not None:
            seconds = run.duration.total_seconds()
            RUN_SECONDS.labels(run.department, run.automation).observe(seconds)
