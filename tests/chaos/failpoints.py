"""Arm the failpoints of `tests.chaos.faults` from a test, and read the marks they leave."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.eventually import eventually

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mark:
    """Where and when a point fired, in seconds since the epoch (the database's clock as well)."""

    pid: int
    at: float
    role: str


class Failpoints:
    """The folder in which the processes look for their orders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def arm(self, point: str, *, role: str, action: str = "kill", **where: object) -> None:
        """Let the next process of this role that comes by `point` do `action`, once.

        action: kill, kill-group (a worker with its children), segv, stop, sleep:SECONDS,
        freeze:PID (SIGSTOP for another process), lose-answer (of the last statement).
        where: facts the point must have, e.g. `run_id`.
        """
        (self.folder / f"{point}.mark").unlink(missing_ok=True)
        order = {"role": role, "action": action, "where": {n: str(v) for n, v in where.items()}}
        partial = self.folder / f"{point}.new"
        partial.write_text(json.dumps(order))
        partial.rename(self.folder / point)

    def fired(self, point: str, *, within: float = 10) -> Mark:
        """Wait until the point has fired; return its mark."""
        mark = self.folder / f"{point}.mark"
        eventually(mark.exists, within=within, what=f"failpoint {point} fires")
        return Mark(**json.loads(mark.read_text()))

    def clear(self) -> None:
        """Disarm everything and forget the marks."""
        for path in self.folder.iterdir():
            path.unlink()
