"""What the platform promises of its speed, and whether figures keep it. Pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: measure -> side -> one figure a repetition.
Figures = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Something that is measured once a repetition."""

    name: str
    title: str
    unit: str
    more_is_better: bool = False
    digits: int = 1


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on our figure, or on its ratio to a baseline's."""

    measure: str
    bound: float
    against: str = ""


MEASURES = {
    measure.name: measure
    for measure in (
        Measure(name="W1", title="W1 40 x fib(10)", unit="s", digits=4),
        Measure(name="W2", title="W2 1,000 + join", unit="steps/s", more_is_better=True, digits=0),
        Measure(
            name="W3", title="W3 runs of 3 steps", unit="runs/s", more_is_better=True, digits=0
        ),
        Measure(name="W4", title="W4 submit to start, p50", unit="ms", digits=2),
        Measure(name="W4 p99", title="W4 submit to start, p99", unit="ms", digits=1),
        Measure(name="API", title="POST /runs under W3, p95", unit="ms", digits=1),
        Measure(name="API run", title="API run of one step, p50", unit="ms", digits=1),
    )
}
#: DESIGN 7.
TARGETS = (
    Target(measure="W1", bound=0.75, against="raw"),
    Target(measure="W2", bound=3.0, against="raw"),
    Target(measure="W3", bound=1.5, against="raw"),
    Target(measure="W4", bound=0.75, against="durable"),
    Target(measure="W4 p99", bound=50.0),
    Target(measure="API", bound=100.0),
    Target(measure="API run", bound=25.0),
)
#: The baselines on two processors, measured before there was anything to compare with it.
FLOORS = {
    "raw": {"W1": 0.060, "W2": 990.0, "W3": 268.0, "W4": 2.7},
    "durable": {"W1": 0.129, "W2": 509.0, "W3": 137.0, "W4": 6.0},
}
FLOOR_PROCESSORS = 2
FLOOR_TOLERANCE = 0.2
#: Share of the machine that others may use while something is timed.
FOREIGN_SHARE = 0.05
NAMES = {"raw": "R", "durable": "F", "ours": "ours"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a target; `value` is what the bound bounds."""

    target: Target
    value: float
    kept: bool

    @property
    def sentence(self) -> str:
        """Return the verdict as a line."""
        measure = MEASURES[self.target.measure]
        sign = ">=" if measure.more_is_better else "<="
        unit = f" x {NAMES[self.target.against]}" if self.target.against else f" {measure.unit}"
        said = f"{measure.title}: {self.value:.2f}{unit}, target {sign} {self.target.bound:g}{unit}"
        return said if self.kept else f"MISSED  {said}"


def ratio(figures: Figures, measure: str, against: str) -> float:
    """Return our median over a baseline's."""
    sides = figures[measure]
    return statistics.median(sides["ours"]) / statistics.median(sides[against])


def verdicts(figures: Figures) -> list[Verdict]:
    """Return a verdict for each target that was measured."""
    found = []
    for target in TARGETS:
        sides = figures.get(target.measure, {})
        if not sides.get("ours") or (target.against and not sides.get(target.against)):
            continue
        if target.against:
            value = ratio(figures, target.measure, target.against)
        else:
            value = statistics.median(sides["ours"])
        more = MEASURES[target.measure].more_is_better
        kept = value >= target.bound if more else value <= target.bound
        found.append(Verdict(target=target, value=value, kept=kept))
    return found


def reasons_void(
    figures: Figures, *, processors: int, foreign: Mapping[str, Sequence[float]]
) -> list[str]:
    """Return why these figures prove nothing; nothing when they do.

    foreign: by measure, the share of the machine that processes of others used, one a timing.
    """
    found = []
    floors = FLOORS if processors == FLOOR_PROCESSORS else {}
    for side, name, floor in ((s, n, f) for s, known in floors.items() for n, f in known.items()):
        reached = figures.get(name, {}).get(side)
        if not reached:
            continue
        measure = MEASURES[name]
        middle = statistics.median(reached)
        # As a rate, so that "20 % below" means the same for seconds and for steps a second.
        speed = middle / floor if measure.more_is_better else floor / middle
        if speed < 1 - FLOOR_TOLERANCE:
            found.append(
                f"{name}: {NAMES[side]} reached {middle:.{measure.digits}f} {measure.unit}, "
                f"{1 - speed:.0%} below its {floor:g} on such a machine"
            )
    for name, shares in foreign.items():
        share = statistics.median(shares)
        if share > FOREIGN_SHARE:
            found.append(f"{name}: others used {share:.0%} of the machine meanwhile")
    return found


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least this share of them does not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
