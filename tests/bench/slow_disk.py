"""The ratios of W1 to W4 again on a slow disk: every commit waits 2 ms longer.

`commit_delay` makes PostgreSQL sleep before each flush of its log, for all sides alike; that it
does is measured, by commits of one row, before anything else is.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.installation import Installation

#: Microseconds, as PostgreSQL takes them.
DELAY = 2000
SETTINGS = {"commit_delay": str(DELAY), "commit_siblings": "0"}
SECTIONS = ("W1", "W2", "W3", "W4")
SAMPLES = 200
#: At least so much of the delay must be seen, or the figures are of another disk.
SEEN = 0.9


def added(installation: Installation) -> tuple[float, float]:
    """Return a commit's median milliseconds without and with the delay."""
    with installation.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_commit (n int)")
        connection.execute("TRUNCATE bench_commit")
        connection.execute("INSERT INTO bench_commit VALUES (0)")
        found = []
        for delay in (0, DELAY):
            connection.execute(f"SET commit_delay = {delay}")
            taken = []
            for _ in range(SAMPLES):
                began = time.perf_counter()
                connection.execute("UPDATE bench_commit SET n = n + 1")
                taken.append((time.perf_counter() - began) * 1000)
            found.append(statistics.median(taken))
    return found[0], found[1]


def verify(installation: Installation) -> str:
    """Return a line that says what a commit takes; RuntimeError when the delay is not there."""
    without, delayed = added(installation)
    said = f"a commit takes {delayed:.2f} ms, {without:.2f} ms without the delay of {DELAY} µs"
    if (delayed - without) * 1000 < SEEN * DELAY:
        raise RuntimeError(f"no slow disk: {said}")
    return said
