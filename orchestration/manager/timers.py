"""What happens because time has passed: retries, deadlines, the end of cancelled runs."""

from __future__ import annotations

from engine import leases, runs
from orchestration.manager.loop import Loop

#: Rows acted on per kind and tick.
RETRIES, RUNS = 500, 100


class Timers(Loop):
    """Retries, delays and deadlines live in PostgreSQL; this loop looks for those that are due."""

    name = "timers"
    interval = 0.25

    def tick(self) -> bool:
        """Act on what is due."""
        woken = self.guarded(lambda: leases.wake_retries(limit=RETRIES))
        self.guarded(lambda: runs.expire_deadlines(limit=RUNS))
        self.guarded(lambda: runs.finish_cancelling(limit=RUNS))
        return woken == RETRIES
