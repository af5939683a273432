"""The system at a glance: is anything wrong, is work being done, do the parts hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.observability.dashboards import panels
from deploy.observability.dashboards.api_slo import API
from deploy.observability.dashboards.panels import (
    PER_MINUTE,
    PER_SECOND,
    RED,
    REQUESTS,
    SECONDS,
    SHARE,
    YELLOW,
    bars,
    lines,
    number,
    quantile,
    row,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard


def build() -> Dashboard:
    """Return the dashboard: the guide's daily routine first, then work, API, dependencies."""
    found = panels.dashboard(
        uid="abe-overview",
        title="AI Business Engine",
        description="Each number turns yellow or red where its alert would speak.",
        since="now-6h",
    )
    _now(found)
    _work(found)
    _api(found)
    _dependencies(found)
    return found


def _now(found: Dashboard) -> None:
    found.with_row(row("Now"))
    for panel in (
        number(
            "Alerts firing",
            'count(ALERTS{alertstate="firing"}) or vector(0)',
            limits=[(1, RED)],
            decimals=0,
            explain="What Prometheus fires now, before Alertmanager silences what follows from it.",
        ),
        number(
            "API latency, p95",
            "api:request_latency_seconds:p95_rate5m",
            unit=SECONDS,
            limits=[(0.3, YELLOW), (1, RED)],
            explain="95 % of requests of the last 5 minutes were answered within this; none when "
            "nobody asked.",
        ),
        number(
            "API server errors",
            "api:server_errors:ratio_rate5m",
            unit=SHARE,
            limits=[(0.01, YELLOW), (0.05, RED)],
            decimals=2,
            explain="Share of requests of the last 5 minutes answered with 5xx; none when nobody "
            "asked.",
        ),
        number(
            "Managers",
            'sum(up{job="manager"})',
            base=RED,
            limits=[(1, panels.GREEN)],
            decimals=0,
            explain="Managers that answer. One works, the others stand by.",
        ),
        number(
            "Queues without a worker",
            "count(queue:workers_online == 0) or vector(0)",
            limits=[(1, YELLOW)],
            decimals=0,
            explain="Queues of the catalog that no worker serves; an alert once work waits there.",
        ),
        number(
            "Runs stuck",
            "max(runs_stuck)",
            limits=[(1, RED)],
            decimals=0,
            explain="Open runs in which nothing is under way or waited for.",
        ),
        number(
            "Deepest queue",
            "max(queue:depth)",
            limits=[(100, YELLOW)],
            decimals=0,
            explain="Steps, messages or events that wait in the fullest queue or stream.",
        ),
        number(
            "Stream lag",
            "max(redis_stream_lag_seconds)",
            unit=SECONDS,
            limits=[(60, YELLOW)],
            explain="Age of the oldest event that the manager has not finished.",
        ),
        number(
            "Open dead letters",
            "sum(department:dead_letters_open) or vector(0)",
            limits=[(1, YELLOW)],
            decimals=0,
            explain="Steps that failed for good and wait for an operator.",
        ),
        number(
            "Redis memory",
            "max(redis_memory_ratio)",
            unit=SHARE,
            limits=[(0.6, YELLOW), (0.9, RED)],
            decimals=1,
            explain="Of maxmemory. A full Redis refuses writes; it never drops a queue.",
        ),
        number(
            "Newest backup",
            "min(backup_age_seconds)",
            unit=SECONDS,
            limits=[(86400, YELLOW), (172800, RED)],
            explain="How old the newest good backup is; without one, the installation.",
        ),
        number(
            "Steps waiting",
            'sum(queue:depth{queue!="automation.events"})',
            base=panels.BLUE,
            decimals=0,
            explain="Steps that a worker could begin at once, in all queues.",
        ),
    ):
        found.with_panel(panel)


def _work(found: Dashboard) -> None:
    found.with_row(row("Work"))
    found.with_panel(
        lines(
            "Runs ended",
            ("sum by (status) (rate(automation_runs_total[$__rate_interval])) * 60", "{{status}}"),
            unit=PER_MINUTE,
            explain="Runs that reached their end, per minute, by how.",
        )
    )
    found.with_panel(
        lines(
            "Attempts of steps",
            (
                "sum by (outcome) (rate(automation_steps_total[$__rate_interval]))",
                "{{outcome}}",
            ),
            unit=PER_SECOND,
            explain="Attempts that ended, per second, by how; retried ones ran again.",
        )
    )
    found.with_panel(
        lines(
            "Waiting, by queue",
            ("queue:depth", "{{queue}}"),
            limits=[(100, YELLOW)],
            explain="Steps, messages or events that wait. The line is the alert's limit.",
        )
    )
    found.with_panel(
        lines(
            "Open dead letters, by department",
            ("department:dead_letters_open", "{{department}}"),
            explain="They wait for an operator: dlq list.",
        )
    )


def _api(found: Dashboard) -> None:
    found.with_row(row("API"))
    found.with_panel(
        lines(
            "Latency",
            *(
                (quantile(share, "api_request_latency_seconds", where=API), name)
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            unit=SECONDS,
            limits=[(0.3, YELLOW), (1, RED)],
            explain="Without probes and scrapes. The lines are the target and the limit.",
        )
    )
    found.with_panel(
        lines(
            "Requests, by status",
            (
                f"sum by (status) (rate(api_requests_total{{{API}}}[$__rate_interval]))",
                "{{status}}",
            ),
            unit=REQUESTS,
            stacked=True,
            explain="Requests per second, without probes and scrapes.",
        )
    )


def _dependencies(found: Dashboard) -> None:
    found.with_row(row("Parts"))
    found.with_panel(
        bars(
            "Reachable from the manager",
            "max by (dependency) (manager_dependency_up)",
            "{{dependency}}",
            base=RED,
            limits=[(1, panels.GREEN)],
            highest=1,
            span=panels.THIRD,
            explain="1 while a manager reaches it.",
        )
    )
    found.with_panel(
        lines(
            "Database connections",
            ("max without (job, instance) (db_connections)", "server: {{state}}"),
            ("sum by (state) (db_connection_pool)", "pool of web: {{state}}"),
            span=panels.THIRD,
            explain="What PostgreSQL sees, and web's pool; requests that wait for a connection are "
            "a pool too small or a query too slow.",
        )
    )
    found.with_panel(
        lines(
            "Repairs by the manager",
            ("sum by (kind) (increase(manager_repairs_total[$__rate_interval]))", "{{kind}}"),
            span=panels.THIRD,
            explain="What the manager mended by itself: lost messages sent again, leases taken "
            "back. A steady stream of one kind has a cause.",
        )
    )
