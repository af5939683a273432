"""Worker processes as the model plays them: what each holds under a claim, body by body.

A holder runs the engine's own code (`Batch`, one attempt after the other); between two bodies
anything may happen to the rest of the world.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from engine import execution
from engine.batches import Batch
from tests.model.script import Act, KilledError, Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from engine.transitions.claims import Claimed


class Holder:
    """A process and what it claimed; it goes on for as long as it does not know better."""

    _numbers = 0

    def __init__(self, held: Sequence[Claimed], *, queue: str) -> None:
        self.held = list(held)
        self.queue = queue
        self.batch = Batch(held, queue=queue)

    @classmethod
    def name(cls) -> str:
        """Return the name of a process that is nobody else's."""
        cls._numbers += 1
        return f"model@h/{cls._numbers}"

    @property
    def claim(self) -> UUID:
        return self.held[0].claim

    @property
    def worker(self) -> str:
        return self.held[0].worker

    def step(self) -> bool:
        """Run one body by the script. False: nothing is left to do, everything is written."""
        found = self.batch.next()
        if found is None:
            return False
        execution._Attempt(found, self.batch).run()
        return True

    def play(self, acts: Iterable[Act], *, bodies: int = 1000) -> str:
        """Run bodies by these acts, and well when there is none; say how that ended.

        Returns `done`, `goes on` (more is held, or not written yet), or `dead`.
        """
        Script.set(*acts)
        try:
            for _ in range(bodies):
                if not self.step():
                    return "done"
        except KilledError:
            return "dead"
        return "goes on"

    def run(self, usual: Act) -> None:
        """Run everything in one go, as a worker does, each body by the same act."""
        Script.set(usual=usual)
        with suppress(KilledError):
            execution.run(self.held, queue=self.queue)
