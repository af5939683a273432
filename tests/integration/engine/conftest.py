"""A worker in the test's own process: publishes into a list and runs what it finds there."""

from __future__ import annotations

import pytest

from departments import sync
from engine import execution, lanes, leases, publishing


class Line:
    """The broker as a list; tests drop, double and reorder what it holds."""

    def __init__(self) -> None:
        self.messages: list[publishing.ReadyStep] = []

    def publish(self, steps) -> None:
        self.messages.extend(steps)

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


@pytest.fixture
def line(transactional_db):
    found = Line()
    before = publishing._publisher
    publishing.register(found)
    sync.sync_catalog()
    yield found
    publishing.register(before)
