"""What the bodies that run next do, and the time they take: a clock that nothing else moves.

The heartbeat's thread says its word in the middle of a body, when the script wants it to.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from django.db import connections

from engine.authoring import StepError

if TYPE_CHECKING:
    from engine.heartbeat import Watch

#: A body that nobody notices, one after which results are written, one after which the slice is
#: over, one that outlasts.
NOTHING, GROUP, SLICE, OUTLASTS = 0.0, 0.06, 0.15, 0.3


class KilledError(BaseException):
    """End the worker in the middle of a step, as SIGKILL would: nobody handles it."""


@dataclass(frozen=True, slots=True)
class Act:
    """What one body does: how it ends, how long it takes, whether the heartbeat sees that."""

    outcome: str = "succeed"
    seconds: float = NOTHING
    beats: bool = False


class Clock:
    """Take the place of the module `time`, for whoever asks for seconds that passed."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let a thread of another test, which found this clock, have its rest."""
        time.sleep(seconds)


class Heart:
    """The heartbeat of the one process that runs a body: heard of when the body calls it."""

    #: One thread for all examples: its database connection is not the body's.
    thread: ClassVar[ThreadPoolExecutor]

    def __init__(self) -> None:
        self.watch: Watch | None = None

    def begin(self, watch: Watch) -> None:
        self.watch = watch

    def finish(self) -> None:
        self.watch = None

    def beat(self) -> None:
        """Let the thread see that the body outlasts."""
        assert self.watch is not None
        seen["shown"] += self.thread.submit(self.watch.on_outlast).result(timeout=20)

    @classmethod
    def start(cls) -> None:
        cls.thread = ThreadPoolExecutor(1)

    @classmethod
    def stop(cls) -> None:
        cls.thread.submit(connections.close_all).result()
        cls.thread.shutdown()


#: What happened in all worlds of this test: a model in which nothing happens proves nothing.
seen: Counter[str] = Counter()
clock = Clock()
heart = Heart()


class Script:
    """The acts of the bodies to come; when there is none, what they usually do."""

    acts: deque[Act] = deque()
    usual = Act()
    #: How long a commit takes.
    writing = NOTHING

    @classmethod
    def set(cls, *acts: Act, usual: Act | None = None) -> None:
        """Give the bodies to come their parts."""
        cls.acts, cls.usual = deque(acts), usual or Act()

    @classmethod
    def play(cls) -> None:
        act = cls.acts.popleft() if cls.acts else cls.usual
        seen[f"told to {act.outcome}"] += 1
        clock.now += act.seconds
        if act.beats:
            heart.beat()
        if act.outcome == "fail":
            raise StepError("told_to", "It was told to fail.")
        if act.outcome == "give up":
            raise StepError("told_to", "It was told to fail for good.", permanent=True)
        if act.outcome == "die":
            raise KilledError
