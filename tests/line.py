"""The broker as a list, and a worker in the test's own process."""

from __future__ import annotations

from engine import execution, lanes, leases, publishing


class Line:
    """The broker as a list; tests drop, double and reorder what it holds."""

    def __init__(self) -> None:
        self.messages: list[publishing.ReadyStep] = []
        #: Queues behind whose backlog new roots are left to `manage`.
        self.backed_up: set[str] = set()

    def publish(self, steps, **_how) -> None:
        self.messages.extend(steps)

    def is_backed_up(self, queue) -> bool:
        return queue in self.backed_up

    def deliver(self) -> int:
        """Run everything that is in the line, and what that brings, to the end."""
        claimed = 0
        while self.messages:
            message = self.messages.pop(0)
            claimed += execution.execute(step_run_ids=[message.id], worker="test/1")
        return claimed

    def manage(self) -> int:
        """Do once what the manager does: wake retries, send what is ready."""
        moved = leases.wake_retries(limit=100)
        for lane in lanes.with_ready():
            moved += lanes.dispatch(lane=lane, limit=500, send=self.publish)
        return moved
