"""What a worker says of itself: one entry of the Redis hash `automation:workers`, and its reading.

A worker's parent speaks every second while it has work, every ten seconds otherwise. The age of a
word is measured on the clock of Redis on both sides, so that no machine's clock matters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestration import streams

if TYPE_CHECKING:
    import redis

#: How often a worker speaks while it has work, and at least, in seconds.
BUSY_SECONDS = 1.0
IDLE_SECONDS = 10.0
#: What a worker with work said longer ago than this is no longer believed: three missed words.
FRESH_SECONDS = 3.0
#: A word from further in the future than this is of a clock that was set back since, in seconds:
#: nobody knows how old it is, and a dead worker's would stay fresh until the clock is there again.
FUTURE_SECONDS = 5.0
#: StepRuns a word names at most; a worker rarely has more (a message a process, 32 steps each).
MAX_HELD = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word of a worker; `at` is when, on the clock of Redis."""

    hostname: str = ""
    pid: int
    queues: list[str]
    concurrency: int
    #: Seconds since its start.
    uptime: float
    at: float
    leaving: bool = False
    #: Processes that run a message now; None from workers that do not say.
    busy: int | None = None
    #: StepRuns of messages it has fetched, in the order in which it will begin them. What runs now
    #: and what of a running message is done may be among them: only the database knows.
    held: tuple[int, ...] = ()
    #: Messages it has fetched and no process has begun.
    waiting: int = 0
    #: Whether `held` was cut at MAX_HELD.
    cut: bool = False

    def encode(self) -> str:
        """Return the JSON that is kept in Redis."""
        said = {name: getattr(self, name) for name in self.__slots__ if name != "hostname"}
        return json.dumps(said, separators=(",", ":"))

    @property
    def has_work(self) -> bool:
        """Return whether it runs or holds anything: then it speaks every second."""
        return bool(self.busy or self.held)

    @property
    def free(self) -> int:
        """Return how many of its processes wait for work."""
        if self.busy is None or self.waiting:
            return 0
        return max(0, self.concurrency - self.busy)


def parse(hostname: str, raw: bytes) -> Word | None:
    """Return what a worker said; None for what makes no sense. Unknown fields are left out."""
    try:
        said: dict[str, Any] = json.loads(raw)
        busy = said.get("busy")
        return Word(
            hostname=hostname,
            pid=int(said["pid"]),
            queues=[str(queue) for queue in said["queues"]],
            concurrency=int(said["concurrency"]),
            uptime=float(said["uptime"]),
            at=float(said["at"]),
            leaving=bool(said["leaving"]),
            busy=None if busy is None else int(busy),
            held=tuple(int(found) for found in said.get("held", ())),
            waiting=int(said.get("waiting", 0)),
            cut=bool(said.get("cut", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def clock(client: redis.Redis) -> float:
    """Return the time by the clock of Redis."""
    seconds, micros = client.time()
    return seconds + micros / 1e6


def said(client: redis.Redis) -> tuple[float, dict[str, Word | None]]:
    """Return the time by Redis and what every worker last said; None for rubbish.

    Rubbish is also what was said in the future: whoever lives says something else within seconds.
    """
    with client.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.hgetall(streams.WORKERS)
        (seconds, micros), entries = pipe.execute()
    now = seconds + micros / 1e6
    names = {raw_name: raw_name.decode(errors="replace") for raw_name in entries}
    found = {names[raw_name]: parse(names[raw_name], raw) for raw_name, raw in entries.items()}
    for name, word in found.items():
        if word is not None and word.at > now + FUTURE_SECONDS:
            found[name] = None
    return now, found
