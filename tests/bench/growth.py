"""Whether cost grows with the tables: the same work beside a thousand finished runs and a million.

Two installations as `up` ships them, alike but for what their tables hold, measured in turns. Then
what people ask of the large one over HTTP, and the planning of a wide map. Takes about ten minutes,
half of them to fill the tables. Exit code 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.acceptance.stack import ROOT, TLS, Stack
from tests.bench.installation import CATALOG, CHILDREN, LEASE_SECONDS, Driver
from tests.bench.sizes import SHORT
from tests.bench.targets import percentile
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSED = 1
SMALL, LARGE = 1_000, 1_000_000
#: How much slower the large one may be.
LOSS = 0.10
#: Of W2 in a turn: each is over in half a second.
FANS = 4
#: The widest map that is planned, and how long that may take, in seconds.
ITEMS, PLANNING_SECONDS = 10_000, 2.0
#: p95 of every list, in milliseconds.
LIST_MILLISECONDS = 50.0
STATES = (
    *("pending", "running", "paused", "blocked", "cancelling"),
    *("succeeded", "failed", "cancelled", "timed_out"),
)
PLANNED = """
SELECT r.id::text, extract(epoch FROM max(s.ready_at) - r.created_at)::float8, count(*)
FROM engine_run r JOIN engine_steprun s ON s.run_id = r.id AND s.map_index >= 0
WHERE r.id = (SELECT id FROM engine_run ORDER BY id DESC LIMIT 1) GROUP BY r.id
"""
#: What filling a table leaves to do later: who measured meanwhile would measure that.
VACUUMS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
VACUUMS_SECONDS = 300
#: Runs that stand deep in the past: whatever the page, it costs a page.
DEEP = "SELECT id::text FROM engine_run ORDER BY id OFFSET 500 LIMIT 1"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One figure and its bound."""

    name: str
    value: float
    bound: float
    unit: str
    more_is_better: bool = False

    @property
    def kept(self) -> bool:
        """Return whether the figure keeps its bound."""
        return self.value >= self.bound if self.more_is_better else self.value <= self.bound

    @property
    def sentence(self) -> str:
        """Return the verdict as a line."""
        sign = ">=" if self.more_is_better else "<="
        said = f"{self.name}: {self.value:.2f} {self.unit}, target {sign} {self.bound:g}"
        return said if self.kept else f"MISSED  {said}"


class Place:
    """An installation whose tables hold so many finished runs."""

    def __init__(self, folder: Path, *, runs: int) -> None:
        """Choose ports that are free: the one before has to be up."""
        self.runs = runs
        folder.mkdir()
        self.stack = Stack(
            folder,
            options=("--workers", "1", "--concurrency", str(CHILDREN)),
            LEASE_SECONDS=str(LEASE_SECONDS),
            CATALOG_PACKAGES=CATALOG,
        )
        self._driver: Driver | None = None

    def start(self) -> float:
        """Start it and fill it; return after how many seconds it rests."""
        self.stack.start()
        began = time.monotonic()
        filling = [sys.executable, "-m", "tests.seed", "--finished", str(self.runs)]
        subprocess.run(filling, cwd=ROOT, env=self._environment, check=True)
        self.stack.execute("CHECKPOINT")
        eventually(lambda: not self.stack.rows(VACUUMS), within=VACUUMS_SECONDS, what="rest")
        seconds = time.monotonic() - began
        self._driver = Driver("ours", self._environment, self.stack.folder / "driver.log")
        self._driver.expect_ready()
        return seconds

    def stop(self) -> None:
        """End it."""
        if self._driver is not None:
            self._driver.close()
        if self.stack.process is not None and self.stack.process.poll() is None:
            self.stack.stop()

    def drive(self, do: str, **values: Any) -> dict[str, Any]:
        """Let its driver do something."""
        assert self._driver is not None
        self._driver.order(do, **values)
        return self._driver.answer()

    @property
    def _environment(self) -> dict[str, str]:
        return self.stack.environment | {
            "DJANGO_SETTINGS_MODULE": "config.settings.local",
            "DATABASE_URL": self.stack.database_url,
            "REDIS_URL": self.stack.redis_url,
        }


def rates(places: list[Place], *, repetitions: int) -> dict[str, dict[int, list[float]]]:
    """Return W2's steps and W3's runs a second of each place, measured in turns."""
    found: dict[str, dict[int, list[float]]] = {"W2": {}, "W3": {}}
    for place in places:
        for _ in range(2):
            place.drive("fan", count=500)
            place.drive("burst", runs=200, steps=SHORT)
    for repetition in range(repetitions):
        for place in places if repetition % 2 else reversed(places):
            for _ in range(FANS):
                fan = place.drive("fan", count=1000)
                found["W2"].setdefault(place.runs, []).append(fan["steps"] / fan["seconds"])
            burst = place.drive("burst", runs=400, steps=SHORT)
            found["W3"].setdefault(place.runs, []).append(burst["runs"] / burst["seconds"])
    return found


def addresses(place: Place, *, wide: str) -> Iterator[str]:
    """Yield what people ask for: every filter, rare and without a match, deep pages, a wide run."""
    (deep,) = place.stack.rows(DEEP)[0]
    yield from ("/runs", "/runs?limit=5", "/runs?limit=100", f"/runs?before={deep}&limit=100")
    yield from (f"/runs?after={deep}", "/runs?count=true", "/runs?department=seeded1&count=true")
    yield from ("/runs?error_code=nothing", "/runs?correlation_id=nothing")
    yield "/runs?created_after=2020-01-01T00:00:00Z&created_before=2020-01-02T00:00:00Z"
    for state in STATES:
        yield f"/runs?state={state}"
        yield f"/runs?state={state}&before={deep}"
    for department in ("seeded1", "rare", "nobody"):
        for which in (f"department={department}", f"automation={department}.report"):
            yield f"/runs?{which}"
            yield f"/runs?{which}&before={deep}&limit=100"
            for state in ("succeeded", "failed", "timed_out", "running"):
                yield f"/runs?{which}&state={state}"
    yield "/runs?department=seeded1&automation=seeded1.report&state=cancelled&limit=100"
    yield "/runs?department=rare&automation=seeded1.report"
    yield from ("/dead-letters", "/dead-letters?state=open", "/dead-letters?department=rare")
    (middle,) = place.stack.rows(
        "SELECT id FROM engine_steprun WHERE run_id = %s AND map_index = 5000", wide
    )[0]
    yield from (f"/runs/{wide}/steps?limit=100", f"/runs/{wide}/steps?limit=100&after={middle}")
    yield from (f"/runs/{wide}/events?limit=100", f"/runs/{wide}")


def lists(place: Place, *, wide: str, samples: int) -> dict[str, float]:
    """Return the p95 of each list in milliseconds, asked one after another over HTTP."""
    scopes = "runs.read,dead_letters.read"
    token = place.stack.manage("mint_jwt", "--scopes", scopes, "--ttl", "3600").strip()
    found: dict[str, float] = {}
    with httpx.Client(
        base_url=place.stack.url, headers={"Authorization": f"Bearer {token}"}, verify=TLS
    ) as client:
        for address in addresses(place, wide=wide):
            taken = []
            client.get(address, timeout=30)  # a process that has answered nothing yet is slow once
            for _ in range(samples):
                began = time.perf_counter()
                answer = client.get(address, timeout=30)
                taken.append((time.perf_counter() - began) * 1000)
                answer.raise_for_status()
            found[address.replace(wide, "WIDE")] = percentile(taken, 0.95)
    return found


def judge(
    measured: dict[str, dict[int, list[float]]], planned: list[float], asked: dict[str, float]
) -> list[Finding]:
    """Return each figure with its bound."""
    found = []
    for name, of in measured.items():
        small, large = (statistics.median(of[runs]) for runs in sorted(of))
        said = f"{name} beside {max(of):,} runs, of its rate beside {min(of):,}"
        found.append(
            Finding(name=said, value=large / small, bound=1 - LOSS, unit="x", more_is_better=True)
        )
    found.append(
        Finding(
            name=f"planning of {ITEMS:,} items",
            value=statistics.median(planned),
            bound=PLANNING_SECONDS,
            unit="s",
        )
    )
    worst = max(asked, key=asked.__getitem__)
    said = f"slowest of {len(asked)} lists, p95 ({worst})"
    found.append(Finding(name=said, value=asked[worst], bound=LIST_MILLISECONDS, unit="ms"))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench growth", description=__doc__)
    parser.add_argument("--runs", type=int, default=LARGE, help="in the large one")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--samples", type=int, default=40, help="of each list")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="abe-growth-") as name:
        places: list[Place] = []
        try:
            for runs in (SMALL, options.runs):
                places.append(Place(Path(name) / str(runs), runs=runs))
                print(f"  {runs:,} finished runs: {places[-1].start():.0f} s", flush=True)
            measured = rates(places, repetitions=options.repetitions)
            planned = []
            for _ in range(3):
                places[1].drive("fan", count=ITEMS)
                wide, seconds, items = places[1].stack.rows(PLANNED)[0]
                assert items == ITEMS, items
                planned.append(seconds)
            asked = lists(places[1], wide=wide, samples=options.samples)
        finally:
            for place in places:
                place.stop()
    findings = judge(measured, planned, asked)
    for figure, of in measured.items():
        for runs, values in of.items():
            shown = ", ".join(f"{value:.0f}" for value in values)
            print(f"  {figure} beside {runs:>9,} runs: {shown} a second")
    for finding in findings:
        print(f"  {finding.sentence}")
    file = options.json or ROOT / "var/bench" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-growth.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rates": measured,
        "planning_seconds": planned,
        "lists_p95_ms": asked,
        "verdicts": [asdict(finding) | {"kept": finding.kept} for finding in findings],
    }
    file.write_text(json.dumps(data, indent=1) + "\n")
    print(f"  everything: {file}")
    return 0 if all(finding.kept for finding in findings) else MISSED


if __name__ == "__main__":
    sys.exit(main())
