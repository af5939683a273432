"""How work moves: the manager's loops, planning, the stream, the queues and who serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.observability.dashboards import panels
from deploy.observability.dashboards.panels import (
    GREEN,
    PER_MINUTE,
    RED,
    SECONDS,
    THIRD,
    YELLOW,
    bars,
    lines,
    quantile,
    row,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def build() -> Dashboard:
    """Return the dashboard, in the order in which one looks for why work does not move."""
    found = panels.dashboard(
        uid="abe-orchestrator",
        title="Orchestrator and queues",
        description="Why does work not move: processes, manager, stream, queues, workers.",
        since="now-3h",
    )
    _processes(found)
    _manager(found)
    _stream(found)
    _queues(found)
    return found


def _processes(found: Dashboard) -> None:
    found.with_row(row("Processes"))
    found.with_panel(
        bars(
            "Processes that answer",
            'up{job=~"web|manager|worker"}',
            "{{job}} {{instance}}",
            base=RED,
            limits=[(1, GREEN)],
            highest=1,
            explain="1 while Prometheus can scrape it.",
        )
    )
    found.with_panel(
        bars(
            "Loops of the manager",
            "sum by (loop) (manager_loop_active)",
            "{{loop}}",
            base=RED,
            limits=[(1, GREEN)],
            highest=1,
            explain="Managers that run the loop; most loops are run by one. 0: its work waits.",
        )
    )
    found.with_panel(
        bars(
            "Workers, by queue",
            "queue:workers_online",
            "{{queue}}",
            base=RED,
            limits=[(1, GREEN)],
            explain="Worker processes that serve the queue.",
        )
    )


def _manager(found: Dashboard) -> None:
    found.with_row(row("Manager"))
    found.with_panel(
        lines(
            "Age of the oldest heartbeat",
            ("max by (instance) (manager_heartbeat_age_seconds)", "{{instance}}"),
            unit=SECONDS,
            limits=[(60, RED)],
            span=THIRD,
            explain="Since the last turn of the slowest loop. The line is the alert's limit.",
        )
    )
    found.with_panel(
        lines(
            "Planning",
            *(
                (quantile(share, "manager_planning_duration_seconds"), name)
                for share, name in ((0.5, "p50"), (0.95, "p95"))
            ),
            unit=SECONDS,
            span=THIRD,
            explain="From a request in the stream, or a schedule's time, to its planned run.",
        )
    )
    found.with_panel(
        lines(
            "Repairs",
            (
                "sum by (kind) (rate(manager_repairs_total[$__rate_interval])) * 60",
                "{{kind}}",
            ),
            (
                "sum(rate(circuit_breakers_opened_total[$__rate_interval])) * 60 or vector(0)",
                "circuit breakers opened",
            ),
            unit=PER_MINUTE,
            span=THIRD,
            explain="What was mended without an operator, per minute.",
        )
    )


def _stream(found: Dashboard) -> None:
    found.with_row(row("Stream automation.events"))
    found.with_panel(
        lines(
            "Lag",
            ("max by (stream, group) (redis_stream_lag_seconds)", "{{stream}} {{group}}"),
            unit=SECONDS,
            limits=[(60, YELLOW)],
            explain="Age of the oldest event that the group has not finished. The line is the "
            "alert's limit.",
        )
    )
    found.with_panel(
        lines(
            "Events not finished",
            ('queue:depth{queue="automation.events"}', "all"),
            ("max by (stream, group) (redis_stream_pending)", "delivered, not acknowledged"),
            explain="Events that are work for the manager.",
        )
    )


def _queues(found: Dashboard) -> None:
    found.with_row(row("Queues"))
    found.with_panel(
        lines(
            "Waiting",
            ('queue:depth{queue!="automation.events"}', "{{queue}}"),
            limits=[(100, YELLOW)],
            explain="Steps or messages that a worker could begin. The line is the alert's limit.",
        )
    )
    found.with_panel(
        lines(
            "Age of the oldest",
            ("queue:oldest_age_seconds", "{{queue}}"),
            unit=SECONDS,
            explain="How long the oldest step that a worker could begin has waited.",
        )
    )
    found.with_panel(
        lines(
            "Waiting for a worker",
            *(
                (quantile(share, "automation_step_wait_seconds"), name)
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            unit=SECONDS,
            explain="From ready to begun, of the steps that were begun.",
        )
    )
    found.with_panel(
        lines(
            "Workers",
            ("queue:workers_online", "{{queue}}"),
            explain="Worker processes that serve each queue.",
        )
    )
