"""Begin the workloads of one side and time them: `python -m tests.bench.driver SIDE`.

A process of its own for each side, started alike, idle but for its turn. It reads a command a line
(JSON) and answers each with a line. Time runs from the driver's `time.time()` before the first
submission to the last step's own `time.time()`.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections import Counter
from typing import Any

from tests.bench import work

MODULES = {
    "raw": "tests.bench.baseline.raw",
    "durable": "tests.bench.baseline.durable",
    "ours": "tests.bench.ours",
}
PATIENCE_SECONDS = 120.0
#: Between two looks at the reports: so rare that looking costs the steps nothing.
LOOK_SECONDS = 0.004
#: Between two samples of a latency, so that each meets an idle system.
PAUSE_SECONDS = 0.02


class Driver:
    """One side, driven."""

    def __init__(self, side: Any) -> None:
        self.side = side
        self._runs = 0
        #: What timing itself has cost: looks at Redis, questions to PostgreSQL, reports of steps.
        self._own = Counter()

    def chain(self, *, steps: int) -> dict[str, Any]:
        """Run W1 once."""
        begun = time.time()
        self.side.chain(steps)
        return self._timed(begun, steps=steps)

    def fan(self, *, count: int) -> dict[str, Any]:
        """Run W2 once."""
        self._runs += 1
        begun = time.time()
        self.side.fan(f"fan:{begun}:{self._runs}", count)
        return self._timed(begun, steps=count + 1)

    def burst(self, *, runs: int, steps: int) -> dict[str, Any]:
        """Run W3 once."""
        begun = time.time()
        for _ in range(runs):
            self.side.short(steps)
        submitted = time.time() - begun
        found = self._timed(begun, steps=runs * steps, reports=runs)
        return found | {"runs": runs, "submit_seconds": submitted}

    def latency(self, *, samples: int) -> dict[str, Any]:
        """Take the samples of W4: milliseconds from before the submission to the step's start."""
        self._own.clear()
        found = []
        for _ in range(samples):
            begun = time.time()
            self.side.short(1)
            found.append((self._reported(1)[0] - begun) * 1000)
            time.sleep(PAUSE_SECONDS)
        self._settle()
        return {"steps": samples, "samples_ms": found, "own": dict(self._own)}

    def pour(self, *, seconds: float, backlog: int) -> dict[str, Any]:
        """Go on with runs of W3, so that always about so many are open, until the time is over."""
        begun = time.time()
        submitted = 0
        client = work.reports()
        while time.time() - begun < seconds:
            # Each run that has ended has left one report.
            room = client.llen(work.REPORTS) + backlog - submitted
            for _ in range(room):
                self.side.short(3)
            submitted += room
            time.sleep(LOOK_SECONDS)
        found = self._timed(begun, steps=submitted * 3, reports=submitted)
        return found | {"runs": submitted}

    def _timed(self, begun: float, *, steps: int, reports: int = 1) -> dict[str, Any]:
        self._own.clear()
        ended = max(self._reported(reports))
        self._settle()
        committed = self.side.committed(begun)
        self._own["questions"] += 1
        return {
            "steps": steps,
            "seconds": ended - begun,
            "committed_seconds": None if committed is None else committed - begun,
            "own": dict(self._own),
        }

    def _reported(self, number: int) -> list[float]:
        """Wait for so many reports and take them."""
        client = work.reports()
        self._own["reports"] += number
        if number == 1:
            found = client.blpop([work.REPORTS], timeout=PATIENCE_SECONDS)
            if found is None:
                raise TimeoutError(f"no report within {PATIENCE_SECONDS} s")
            return [float(found[1])]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (there := client.llen(work.REPORTS)) < number:
            self._own["looks"] += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"{there} of {number} reports within {PATIENCE_SECONDS} s")
            time.sleep(LOOK_SECONDS)
        return [float(said) for said in client.lpop(work.REPORTS, number)]

    def _settle(self) -> None:
        """Wait until nothing of the workload is under way any more, the last commit included."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._own["questions"] += 1
            if self.side.quiet():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not quiet within {PATIENCE_SECONDS} s")
            time.sleep(LOOK_SECONDS)


def main() -> None:
    """Answer commands until the input ends."""
    driver = Driver(importlib.import_module(MODULES[sys.argv[1]]).Side())
    answers = sys.stdout
    sys.stdout = sys.stderr  # a stray print must not be taken for an answer
    print(json.dumps({"ready": sys.argv[1]}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(driver, order.pop("do"))(**order)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
