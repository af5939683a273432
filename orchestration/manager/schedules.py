"""Start what schedules owe: each fire time once, whichever manager looks first."""

from __future__ import annotations

from departments import schedules
from orchestration.manager.loop import Loop

#: Schedules acted on per tick.
DUE = 100


class Schedules(Loop):
    """Look for schedules whose next fire time has come; each is a transaction of its own."""

    name = "schedules"
    interval = 0.5

    def tick(self) -> bool:
        """Fire what is due."""
        return schedules.fire_due(limit=DUE) == DUE
