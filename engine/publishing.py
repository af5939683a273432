"""The seam between "these steps are ready" and the broker, which the engine does not know.

Publishing is a hint: the rows are the truth, the manager finds what a lost hint left behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """A StepRun that may be tried now, and the queue it goes to.

    `alone`: no other StepRun may share its message, because it may end the worker it runs on.
    """

    id: int
    queue: str
    alone: bool = False


class Publisher(Protocol):
    """Send hints to workers; must not raise and must not block for long."""

    def publish(self, steps: Sequence[ReadyStep], *, spread: int | None = None) -> None:
        """Send hints; `spread`: in about so many messages, None for the publisher's own choice."""
        ...

    def is_backed_up(self, queue: str) -> bool:
        """Return whether what is new for this queue had better wait in the database."""
        ...


class _Nobody:
    def publish(self, steps: Sequence[ReadyStep], *, spread: int | None = None) -> None:
        """Send nothing: in a process without a publisher the manager will find the rows."""

    def is_backed_up(self, queue: str) -> bool:  # noqa: ARG002 - a protocol's signature
        """Leave everything to the manager."""
        return True


_publisher: Publisher = _Nobody()


def register(publisher: Publisher) -> None:
    """Name the publisher of this process; `OrchestrationConfig.ready()` does."""
    global _publisher  # noqa: PLW0603 - one publisher per process, set once at start
    _publisher = publisher


def publish(steps: Sequence[ReadyStep], *, spread: int | None = None) -> None:
    """Hand ready steps to the broker, best effort. Call it after the commit, never before.

    spread: in about so many messages, None for the publisher's own choice.
    """
    if steps:
        _publisher.publish(steps, spread=spread)


def backed_up(queues: Iterable[str]) -> list[str]:
    """Return those of the queues in which so much waits that the manager is to send what is new.

    Steps for them are stored `ready`: in the database they stand in line by priority and age, and
    many share a message when it is their turn.
    """
    return [queue for queue in queues if _publisher.is_backed_up(queue)]
