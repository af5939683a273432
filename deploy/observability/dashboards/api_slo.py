"""The API against its objectives: how much error budget is left, and how fast it burns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.observability.dashboards import panels
from deploy.observability.dashboards.panels import (
    GREEN,
    HALF,
    RED,
    REQUESTS,
    SECONDS,
    SHARE,
    YELLOW,
    lines,
    number,
    quantile,
    row,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

#: The same as in prometheus/rules.yml: probes and scrapes are not the API.
API = 'route!~"/(metrics|livez|readyz|health.*)"'
#: Of the guide: fewer than 1 % errors, 95 % of answers within 300 ms.
ERROR_BUDGET, SLOW_BUDGET = 0.01, 0.05
#: Burn rates at which 2 % of 30 days' budget are gone in an hour, and 5 % in six.
BURN_LIMITS = [(1.0, GREEN), (6.0, YELLOW), (14.4, RED)]


def build() -> Dashboard:
    """Return the dashboard: budget, burn, then where latency and errors come from."""
    found = panels.dashboard(
        uid="abe-api-slo",
        title="API SLO",
        description="99 % of requests without a server's error and 95 % within 300 ms, over 30 "
        "days. Probes and scrapes do not count.",
        since="now-24h",
    )
    _budget(found)
    _burn(found)
    _latency(found)
    _errors(found)
    return found


def _budget(found: Dashboard) -> None:
    found.with_row(row("Objectives, 30 days"))
    for title, ratio, budget in (
        ("Requests without error", "api_slo:availability:error_ratio30d", ERROR_BUDGET),
        ("Answers within 300 ms", "api_slo:latency:slow_ratio30d", SLOW_BUDGET),
    ):
        found.with_panel(
            number(
                title,
                f"1 - {ratio}",
                unit=SHARE,
                base=RED,
                limits=[(1 - budget, GREEN)],
                span=6,
                decimals=3,
                explain=f"The objective is {100 * (1 - budget):.0f} %.",
            )
        )
        found.with_panel(
            number(
                "Error budget left" if budget == ERROR_BUDGET else "Latency budget left",
                f"1 - {ratio} / {budget:g}",
                unit=SHARE,
                base=RED,
                limits=[(0, YELLOW), (0.25, GREEN)],
                span=6,
                decimals=1,
                explain="What is left of what may go wrong in 30 days; below 0 the objective is "
                "missed.",
            )
        )


def _burn(found: Dashboard) -> None:
    found.with_row(row("Burn rate: at 1 the budget lasts exactly 30 days"))
    for title, ratio, budget in (
        ("Error budget", "api_slo:availability:error_ratio", ERROR_BUDGET),
        ("Latency budget", "api_slo:latency:slow_ratio", SLOW_BUDGET),
    ):
        found.with_panel(
            lines(
                title,
                *((f"{ratio}{span} / {budget:g}", span) for span in ("5m", "1h", "6h")),
                limits=BURN_LIMITS,
                explain="Over 14.4 for an hour 2 % of the budget are gone, over 6 for six hours "
                "5 %. Act when the short and the long window are both over the line.",
            )
        )


def _latency(found: Dashboard) -> None:
    found.with_row(row("Latency"))
    found.with_panel(
        lines(
            "Latency of all routes",
            *(
                (quantile(share, "api_request_latency_seconds", where=API), name)
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            unit=SECONDS,
            limits=[(0.3, YELLOW), (1, RED)],
            explain="The lines are the target and the limit of the alerts.",
        )
    )
    slowest = quantile(0.95, "api_request_latency_seconds", by="method route", where=API)
    found.with_panel(
        lines(
            "The ten slowest routes, p95",
            (f"topk(10, {slowest})", "{{method}} {{route}}"),
            unit=SECONDS,
            explain="Start here when latency is high.",
        )
    )


def _errors(found: Dashboard) -> None:
    found.with_row(row("Requests and errors"))
    found.with_panel(
        lines(
            "Requests, by route",
            (
                f"sum by (method, route) (rate(api_requests_total{{{API}}}[$__rate_interval]))",
                "{{method}} {{route}}",
            ),
            unit=REQUESTS,
            stacked=True,
            explain="Requests per second.",
        )
    )
    found.with_panel(
        lines(
            "Share of errors",
            ("api:server_errors:ratio_rate5m", "server errors (5xx)"),
            ("api:client_errors:ratio_rate5m", "refused (4xx)"),
            unit=SHARE,
            limits=[(0.01, YELLOW), (0.05, RED)],
            explain="Only server errors count against the objective; the lines are the limits of "
            "their alerts. Refused requests are shown apart.",
        )
    )
    found.with_panel(
        lines(
            "Errors, by route",
            (
                "sum by (kind, route) (rate(api_errors_total[$__rate_interval]))",
                "{{kind}} {{route}}",
            ),
            unit=REQUESTS,
            span=HALF,
            explain="Refused requests and server errors per second. Probes are among them: they "
            "answer 503 while something is wrong.",
        )
    )
    found.with_panel(
        lines(
            "Connections of web's pool",
            ("sum by (state) (db_connection_pool)", "{{state}}"),
            span=HALF,
            explain="Requests that wait for a connection wait here first.",
        )
    )
