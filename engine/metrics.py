"""What happens to steps and what models cost, counted where it happens (CONTRACT §4).

In workers the values lie in files (`orchestration.worker_metrics`), so that they outlive the child.
Results that are written together are counted together: of 32 steps each costs 1 µs.

Map planners are not counted: they share a name with the step that they plan. Labels come from the
catalog and from code; those that come from elsewhere are bounded here.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import structlog
from prometheus_client import Counter, Histogram

from engine import definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.transitions.claims import Claimed
    from engine.transitions.completions import Finished

P = ParamSpec("P")

SUCCEEDED, RETRIED, DEAD, CANCELLED = "succeeded", "retried", "dead", "cancelled"
#: Models told apart; whatever comes after these is `other`.
MAX_MODELS = 50
OTHER = "other"


class GroupedHistogram(Histogram):
    """A histogram that takes many values at once: a write for each bucket that they fall into."""

    def observe_each(self, values: Sequence[float]) -> None:
        """Observe these values of a histogram with all its labels given."""
        counts: dict[int, int] = {}
        for value in values:
            place = bisect_left(self._upper_bounds, value)
            counts[place] = counts.get(place, 0) + 1
        self._sum.inc(sum(values))
        for place, count in counts.items():
            self._buckets[place].inc(count)


STEPS = Counter(
    "automation_steps_total",
    "Attempts of steps that ended, by how: succeeded, retried, dead, cancelled",
    ["department", "step", "outcome"],
)
STEP_SECONDS = GroupedHistogram(
    "automation_step_duration_seconds",
    "How long attempts of steps ran",
    ["department", "step"],
    buckets=(0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
WAIT_SECONDS = GroupedHistogram(
    "automation_step_wait_seconds",
    "How long steps waited from being ready to being begun",
    ["department"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0),
)
LLM_TOKENS = Counter(
    "llm_tokens_total",
    "Tokens that models were sent (input) and sent back (output)",
    ["department", "model", "kind"],
)
LLM_COST = Counter(
    "llm_cost_usd_total", "What calls of models cost, US dollars", ["department", "model"]
)

log = structlog.get_logger(__name__)
_models: set[str] = set()


def _harmless(count: Callable[P, None]) -> Callable[P, None]:
    """Let a step that has been committed not fail because it could not be counted."""

    @wraps(count)
    def counted(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            count(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 - what is done is done
            log.warning("not_counted", error=type(exc).__name__)

    return counted


@_harmless
def steps_succeeded(finished: Iterable[Finished]) -> None:
    """Count results that have just been committed together."""
    ran: dict[tuple[str, str], list[float]] = {}
    waited: dict[str, list[float]] = {}
    for one in finished:
        step = one.step
        name = definitions.graph(step.version_id).by_key[step.key].step
        ran.setdefault((step.lane, name), []).append(one.ended - one.began)
        waited.setdefault(step.lane, []).append(_waited(step, one.began))
    for (department, name), seconds in ran.items():
        STEPS.labels(department, name, SUCCEEDED).inc(len(seconds))
        STEP_SECONDS.labels(department, name).observe_each(seconds)
    for department, seconds in waited.items():
        WAIT_SECONDS.labels(department).observe_each(seconds)


@_harmless
def attempt_ended(
    step: Claimed, name: str, outcome: str, *, ran_seconds: float, began: float
) -> None:
    """Count an attempt of this process that ended without a result.

    name: of the step in the catalog; began: on the monotonic clock.
    """
    if step.kind == "map":
        return
    STEPS.labels(step.lane, name, outcome).inc()
    STEP_SECONDS.labels(step.lane, name).observe_each([ran_seconds])
    WAIT_SECONDS.labels(step.lane).observe_each([_waited(step, began)])


@_harmless
def attempt_lost(row: Any, name: str, outcome: str) -> None:
    """Count an attempt whose worker is gone; how long it ran nobody knows."""
    if row.kind != "map":
        STEPS.labels(row.lane, name, outcome).inc()


def model_called(
    *, department: str, model: str, input_tokens: int, output_tokens: int, cost_usd: float
) -> None:
    """Count a call of a language model; its name comes from outside, so their number is bounded."""
    if model not in _models:
        if len(_models) >= MAX_MODELS:
            model = OTHER
        else:
            _models.add(model)
    LLM_TOKENS.labels(department, model, "input").inc(input_tokens)
    LLM_TOKENS.labels(department, model, "output").inc(output_tokens)
    LLM_COST.labels(department, model).inc(cost_usd)


def _waited(step: Claimed, began: float) -> float:
    """Return for how long a step waited: up to its claim, and then beside others."""
    return max(0.0, step.waited + began - step.claimed_at)
