"""The sections of the benchmark, in the order in which they run, and what they found."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.acceptance.stack import ROOT
from tests.bench import costs, sizes, targets, usage
from tests.bench.installation import SIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tests.bench.installation import Installation
    from tests.bench.sizes import Sizes

TOKEN_SECONDS = 3600
#: Runs of W3 that wait or run while the API is loaded.
BACKLOG = 300


@dataclass(kw_only=True)
class Findings:
    """Everything that was measured, as plain data."""

    figures: targets.Figures = field(default_factory=dict)
    #: Every answer of every driver: measure, repetition, side, order.
    timings: list[dict[str, Any]] = field(default_factory=list)
    foreign: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    memory: list[tuple[str, usage.Memory]] = field(default_factory=list)
    tuples: dict[str, Any] = field(default_factory=dict)

    def add(self, measure: str, side: str, value: float) -> None:
        """Keep a figure of a repetition."""
        self.figures.setdefault(measure, {}).setdefault(side, []).append(value)


class Bench:
    """Measure an installation that has been started."""

    def __init__(
        self,
        installation: Installation,
        *,
        amount: Sizes,
        only: Collection[str],
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self.found = Findings()
        self._installation = installation
        self._amount = amount
        self._only = only
        self._orders = sizes.orders(SIDES, seed=seed)
        self._say = say
        self._bystanders = usage.Bystanders(installation)

    def run(self) -> Findings:
        """Measure every section that is asked for."""
        self._warm_up()
        measures = [name for name in ("W1", "W2", "W3", "W4") if name in self._only]
        # Repetitions outside: what drifts meanwhile drifts for all alike.
        for repetition in range(self._amount.repetitions if measures else 0):
            for name in measures:
                order = next(self._orders)
                for side in order:
                    self._say(f"{name}, repetition {repetition + 1}, {targets.NAMES[side]}")
                    with self._alone(name):
                        self._measure(name, side, repetition=repetition, order=order)
        if "API" in self._only:
            self._api()
        if "COSTS" in self._only:
            self._say("costs of a step")
            accountant = costs.Accountant(self._installation, self._amount)
            self.found.costs = accountant.account()
            self.found.memory = accountant.memory()
        if "TUPLES" in self._only:
            self._tuples()
        return self.found

    def _warm_up(self) -> None:
        for side in SIDES:
            self._say(f"warming up {targets.NAMES[side]}")
            for _ in range(2):
                self._installation.drive(side, "chain", steps=sizes.CHAIN)
                self._installation.drive(side, "fan", count=100)
                self._installation.drive(side, "burst", runs=20, steps=sizes.SHORT)

    def _measure(self, name: str, side: str, *, repetition: int, order: tuple[str, ...]) -> None:
        drive, amount = self._installation.drive, self._amount
        if name == "W1":
            answers = [drive(side, "chain", steps=sizes.CHAIN) for _ in range(amount.chains)]
            self.found.add("W1", side, statistics.median(said["seconds"] for said in answers))
        elif name == "W2":
            answers = [drive(side, "fan", count=amount.fan)]
            self.found.add("W2", side, answers[0]["steps"] / answers[0]["seconds"])
        elif name == "W3":
            answers = [drive(side, "burst", runs=amount.burst, steps=sizes.SHORT)]
            self.found.add("W3", side, answers[0]["runs"] / answers[0]["seconds"])
        else:
            answers = [drive(side, "latency", samples=amount.latencies)]
            samples = answers[0]["samples_ms"]
            self.found.add("W4", side, statistics.median(samples))
            self.found.add("W4 p99", side, targets.percentile(samples, 0.99))
        place = {"measure": name, "side": side, "repetition": repetition, "order": order}
        self.found.timings += [place | said for said in answers]

    def _api(self) -> None:
        amount = self._amount
        for _ in range(max(1, amount.repetitions // 2)):
            self._say("one run at a time by the API")
            with self._alone("API run"):
                alone = self._load("single", runs=amount.api_runs)
            self.found.add("API run", "ours", self._answered(alone, 0.5))
            self._say(f"{amount.api_rate:g} requests/s while W3 drains")
            with self._alone("API"):
                # Longer than the requests: they meet the drain from the first to the last.
                self._installation.order(
                    "ours", "pour", seconds=amount.api_seconds + 2, backlog=BACKLOG
                )
                busy = self._load("steady", rate=amount.api_rate, seconds=amount.api_seconds)
                poured = self._installation.answer("ours")
            self.found.add("API", "ours", self._answered(busy, 0.95))
            self.found.notes.setdefault("W3 under the API's load, runs/s", []).append(
                poured["runs"] / poured["seconds"]
            )
            self.found.timings += [
                {"measure": "API run"} | alone,
                {"measure": "API"} | busy | {"poured": poured},
            ]

    def _answered(self, said: dict[str, Any], share: float) -> float:
        """Return a percentile of the answers; a refused request counts as one never answered."""
        refused = len(said["refused"])
        if refused:
            self.found.notes.setdefault("requests refused", []).append(said["refused"])
        return targets.percentile([*said["samples_ms"], *[float("inf")] * refused], share)

    def _load(self, kind: str, **values: float) -> dict[str, Any]:
        """Let the API's clients ask; return what they say."""
        stack = self._installation.stack
        token = stack.manage(
            "mint_jwt", "--scopes", "runs.read,runs.write", "--ttl", str(TOKEN_SECONDS)
        )
        options = [f"--{name}={value}" for name, value in values.items()]
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.load", kind, *options],
            cwd=ROOT,
            env=self._installation.environment
            | {"BENCH_URL": stack.url, "BENCH_TOKEN": token.strip()},
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(done.stdout)

    def _tuples(self) -> None:
        """Count what 100,000 steps leave behind for VACUUM, which runs as it does for users."""
        self._say("dead tuples after 100,000 steps")
        steps = 0
        for _ in range(self._amount.tuple_fans):
            steps += self._installation.drive("ours", "fan", count=self._amount.fan)["steps"]
        rest = self._amount.tuple_runs
        while rest > 0:
            answer = self._installation.drive(
                "ours", "burst", runs=min(rest, self._amount.burst), steps=sizes.SHORT
            )
            steps += answer["steps"]
            rest -= answer["runs"]
        rows = self._installation.rows(
            "SELECT relname, n_live_tup, n_dead_tup, autovacuum_count,"
            " pg_total_relation_size(relid) / 1048576.0"
            " FROM pg_stat_user_tables WHERE relname LIKE 'engine\\_%%' AND n_tup_ins > 0"
            " ORDER BY n_dead_tup DESC"
        )
        self.found.tuples = {
            "steps": steps,
            "tables": [
                {"table": name, "live": live, "dead": dead, "vacuums": vacuums, "MiB": float(size)}
                for name, live, dead, vacuums, size in rows
            ],
        }

    @contextmanager
    def _alone(self, measure: str) -> Iterator[None]:
        """Note how much of the machine others use meanwhile."""
        self._bystanders.share()
        yield
        self.found.foreign.setdefault(measure, []).append(self._bystanders.share())

    @property
    def void(self) -> list[str]:
        """Return why the figures prove nothing."""
        return targets.reasons_void(
            self.found.figures, processors=os.cpu_count() or 1, foreign=self.found.foreign
        )
