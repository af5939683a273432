"""Where messages go and how many StepRuns one carries. Pure."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from engine.publishing import ReadyStep

ORCHESTRATOR = "orchestrator"
DEAD_LETTER = "dead_letter"
#: Queues that no department may claim.
RESERVED = (ORCHESTRATOR, DEAD_LETTER)

#: Most StepRuns one message carries: beyond it a claim saves nothing more (README, measurements).
MAX_STEPS_PER_MESSAGE = 32
#: A burst is cut into at least this many messages before a message carries a second StepRun, so
#: that a narrow fan-out still spreads over every child.
SPREAD_MESSAGES = 16


def queues(departments: Iterable[str]) -> list[str]:
    """Return every queue of the platform: one per department, then the reserved ones."""
    return [*sorted(departments), *RESERVED]


def steps_per_message(count: int, *, spread: int = SPREAD_MESSAGES) -> int:
    """Return how many of `count` StepRuns, ready at once for one queue, share a message.

    spread: how many messages are filled with one StepRun each before any carries a second.
    """
    return max(1, min(MAX_STEPS_PER_MESSAGE, -(-count // max(1, spread))))


def messages(
    steps: Sequence[ReadyStep], *, spread: int = SPREAD_MESSAGES
) -> Iterator[tuple[str, list[int]]]:
    """Yield (queue, StepRun ids) per message; within a queue the given order is kept.

    A step marked `alone` shares its message with nobody.
    """
    by_queue: dict[str, list[ReadyStep]] = {}
    for step in steps:
        by_queue.setdefault(step.queue, []).append(step)
    for queue, found in by_queue.items():
        size = steps_per_message(len(found), spread=spread)
        for alone, group in groupby(found, key=lambda step: step.alone):
            ids = [step.id for step in group]
            most = 1 if alone else size
            for start in range(0, len(ids), most):
                yield queue, ids[start : start + most]
