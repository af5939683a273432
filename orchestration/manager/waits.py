"""Keep the history of waiting: a line when a run begins to wait, one when it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.waits import History
from orchestration.manager.loop import Loop

if TYPE_CHECKING:
    import threading


class Waits(Loop):
    """Note what waits for longer than a moment; `engine.waits` decides what that is."""

    name = "waits"
    interval = 2.0

    def __init__(self, *, stop: threading.Event) -> None:
        super().__init__(stop=stop)
        self._history = History()

    def gained(self) -> None:
        """Begin with what stands in the history: another manager may have noted since."""
        self._history = History()

    def tick(self) -> bool:
        """Look at a page; never two in a row, so that a flood of waits is written at a pace."""
        try:
            self._history.turn()
        except Exception:
            self._history = History()  # what it could not write is found again
            raise
        return False
