"""What departments do: runs and steps, how long they take and wait, what fails, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.observability.dashboards import panels
from deploy.observability.dashboards.panels import (
    BLUE,
    DOLLARS,
    GREEN,
    PER_MINUTE,
    PER_SECOND,
    RED,
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

CHOSEN = 'department=~"$department"'
RUNS, STEPS = f"automation_runs_total{{{CHOSEN}}}", f"automation_steps_total{{{CHOSEN}}}"
FAILED_RUNS = f'automation_runs_total{{{CHOSEN}, status!="succeeded"}}'
TROUBLE = f'automation_steps_total{{{CHOSEN}, outcome!="succeeded"}}'
TOKENS = {kind: f'llm_tokens_total{{{CHOSEN}, kind="{kind}"}}' for kind in ("input", "output")}
#: A department's queue has its name; the platform's own queues are no department's.
QUEUES = 'queue=~"$department", queue!~"automation.events|orchestrator|dead_letter"'
LETTERS = f"department:dead_letters_open{{{CHOSEN}}}"


def build() -> Dashboard:
    """Return the dashboard; the choice at its top narrows every panel to departments."""
    found = panels.dashboard(
        uid="abe-departments",
        title="Departments",
        description="What the chosen departments do, how long it takes, what fails.",
        since="now-6h",
    ).with_variable(panels.choice("department", label="Department", metric="automation_runs_total"))
    _numbers(found)
    _runs(found)
    _steps(found)
    _models(found)
    return found


def _numbers(found: Dashboard) -> None:
    found.with_row(row("In the chosen time"))
    ended = f"increase({RUNS}[$__range])"
    good = f'increase(automation_runs_total{{{CHOSEN}, status="succeeded"}}[$__range])'
    for panel in (
        number(
            "Runs ended",
            f"sum({ended})",
            base=BLUE,
            span=5,
            decimals=0,
            explain="Runs that reached their end, whatever it was.",
        ),
        number(
            "Runs that succeeded",
            f"(sum({good}) or vector(0)) / (sum({ended}) > 0)",
            unit=SHARE,
            base=RED,
            limits=[(0.9, YELLOW), (0.99, GREEN)],
            span=5,
            decimals=1,
            explain="Share of the runs that ended.",
        ),
        number(
            "Attempts of steps",
            f"sum(increase({STEPS}[$__range]))",
            base=BLUE,
            span=5,
            decimals=0,
            explain="Attempts that ended, retried ones included.",
        ),
        number(
            "Open dead letters",
            f"sum({LETTERS}) or vector(0)",
            limits=[(1, YELLOW)],
            span=5,
            decimals=0,
            explain="Steps that failed for good and wait for an operator.",
        ),
        number(
            "Cost of models",
            f"sum(increase(llm_cost_usd_total{{{CHOSEN}}}[$__range])) or vector(0)",
            unit=DOLLARS,
            base=BLUE,
            span=4,
            decimals=2,
            explain="What calls of language models cost, by list prices.",
        ),
    ):
        found.with_panel(panel)


def _runs(found: Dashboard) -> None:
    found.with_row(row("Runs"))
    found.with_panel(
        lines(
            "Runs ended, by department",
            (f"sum by (department) (rate({RUNS}[$__rate_interval])) * 60", "{{department}}"),
            (
                f"sum by (department) (rate({FAILED_RUNS}[$__rate_interval])) * 60",
                "{{department}}, not succeeded",
            ),
            unit=PER_MINUTE,
            explain="Runs that reached their end, per minute; those that failed, were cancelled or "
            "took too long once more by themselves.",
        )
    )
    found.with_panel(
        lines(
            "Duration of runs, p95, by automation",
            (
                quantile(0.95, "automation_run_duration_seconds", by="automation", where=CHOSEN),
                "{{automation}}",
            ),
            unit=SECONDS,
            explain="From submission to the end, time spent waiting for people included.",
        )
    )
    found.with_panel(
        lines(
            "Waiting, by queue",
            (f"queue:depth{{{QUEUES}}}", "{{queue}}"),
            limits=[(100, YELLOW)],
            explain="Steps that a worker could begin. The line is the alert's limit.",
        )
    )
    found.with_panel(
        lines(
            "Open dead letters",
            (LETTERS, "{{department}}"),
            explain="They wait for an operator: dlq list.",
        )
    )


def _steps(found: Dashboard) -> None:
    found.with_row(row("Steps"))
    found.with_panel(
        lines(
            "Attempts, by outcome",
            (
                f"sum by (department, outcome) (rate({STEPS}[$__rate_interval]))",
                "{{department}} {{outcome}}",
            ),
            unit=PER_SECOND,
            explain="Attempts that ended, per second.",
        )
    )
    found.with_panel(
        lines(
            "Attempts that did not succeed, by step",
            (
                f"sum by (step, outcome) (rate({TROUBLE}[$__rate_interval]))",
                "{{step}} {{outcome}}",
            ),
            unit=PER_SECOND,
            explain="Retried, dead or cancelled: which step is the trouble.",
        )
    )
    slowest = quantile(0.95, "automation_step_duration_seconds", by="step", where=CHOSEN)
    found.with_panel(
        lines(
            "The ten slowest steps, p95",
            (f"topk(10, {slowest})", "{{step}}"),
            unit=SECONDS,
            explain="How long attempts ran.",
        )
    )
    found.with_panel(
        lines(
            "Waiting for a worker, p95",
            (
                quantile(0.95, "automation_step_wait_seconds", by="department", where=CHOSEN),
                "{{department}}",
            ),
            unit=SECONDS,
            explain="From ready to begun: it grows when workers are too few, or when the lane has "
            "a limit.",
        )
    )


def _models(found: Dashboard) -> None:
    found.with_row(row("Language models"))
    found.with_panel(
        lines(
            "Cost per hour",
            (
                f"sum(rate(llm_cost_usd_total{{{CHOSEN}}}[$__rate_interval])) * 3600 or vector(0)",
                "all models",
            ),
            unit=DOLLARS,
            explain="By list prices.",
        )
    )
    found.with_panel(
        lines(
            "Tokens per minute",
            *(
                (
                    f"sum(rate({tokens}[$__rate_interval])) * 60 or vector(0)",
                    kind,
                )
                for kind, tokens in TOKENS.items()
            ),
            unit=panels.COUNT,
            explain="What models were sent, and what they sent back.",
        )
    )
