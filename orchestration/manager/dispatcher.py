"""Send what is ready: what the fast path could not send, and what waits for its lane's credit."""

from __future__ import annotations

from engine import lanes
from orchestration import publisher
from orchestration.manager.loop import Loop

#: StepRuns sent in one transaction.
BATCH = 500
#: Batches a lane may send before the others have their turn.
BATCHES_PER_TURN = 4


class Dispatcher(Loop):
    """READY rows become messages, within the limits of their lanes."""

    name = "dispatcher"
    interval = 0.25

    def tick(self) -> bool:
        """Give each open lane with ready steps a turn."""
        more = [self._serve(lane) for lane in lanes.with_ready()]
        return any(more)

    def _serve(self, lane: str) -> bool:
        """Send some of one lane; return whether it may have more."""
        for _ in range(BATCHES_PER_TURN):
            sent = self.guarded(
                lambda: lanes.dispatch(lane=lane, limit=BATCH, send=publisher.publisher.send)
            )
            if sent < BATCH:
                return False
        return True
