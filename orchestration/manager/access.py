"""Drop keys that have nothing left to verify, and forget what has expired."""

from __future__ import annotations

from datetime import UTC, datetime

from engine.access import housekeeping
from orchestration.manager.loop import Loop

#: Rows of each kind deleted per tick.
SWEPT = 500


class Access(Loop):
    """Tidy up behind tokens; nothing waits for it."""

    name = "access"
    interval = 10.0

    def tick(self) -> bool:
        """Sweep once."""
        return housekeeping.sweep(now=datetime.now(UTC), limit=SWEPT)
