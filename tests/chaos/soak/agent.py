"""The chaos agent: a seeded plan of faults, struck one after another, overlapping as it comes."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import psutil
import psycopg
import redis

from tests.chaos.soak import kinds

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.soak.faults import Fault
    from tests.chaos.soak.platform import Platform

#: Seconds between two faults: 12 in a minute, 360 in half an hour.
PAUSE_SECONDS = (3.0, 7.0)
FIRST_SECONDS = 2.0
#: The last fault strikes this long before the end, so that it strikes under load.
LAST_SECONDS = 1.0
TICK_SECONDS = 0.25
LOOK_SECONDS = 0.5
#: How often each kind comes in a hand, once each has had its turn.
WEIGHTS = defaultdict(
    lambda: 1,
    {
        "worker killed": 3,
        "worker child killed": 3,
        "worker told to end (SIGTERM)": 2,
        "manager killed": 2,
        "process stopped, shorter than a lease": 3,
        "process stopped, longer than a lease": 2,
        "Redis emptied (FLUSHALL)": 2,
    },
)
UNREACHABLE = (psutil.Error, psycopg.Error, redis.RedisError, OSError)


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault of the plan: seconds after the start, what, and the dice of its details."""

    at: float
    kind: str
    dice: int


def plan(*, seed: int, seconds: float) -> list[Planned]:
    """Return the faults of a soak: the same for the same seed. Each kind comes once first."""
    random = Random(f"faults {seed}")
    hand: list[str] = []
    dealt = 0
    found: list[Planned] = []
    at = FIRST_SECONDS
    while at < seconds - LAST_SECONDS:
        if not hand:
            hand = [kind for kind in kinds.KINDS for _ in range(WEIGHTS[kind] if dealt else 1)]
            random.shuffle(hand)
            dealt += 1
        found.append(Planned(at, hand.pop(), random.getrandbits(32)))
        at += random.uniform(*PAUSE_SECONDS)
    return found


@dataclass(kw_only=True)
class Blow:
    """What became of a planned fault. Seconds after the start of the soak."""

    kind: str
    target: str
    fault: Fault
    at: float
    hit: bool = False
    released: bool = False
    over: float | None = None

    def words(self) -> dict[str, object]:
        """Return it for the log."""
        return {
            "kind": self.kind,
            "target": self.target,
            "at": round(self.at, 2),
            "hit": self.hit,
            "over": None if self.over is None else round(self.over, 2),
        }


class Agent(threading.Thread):
    """Strike by the plan; keep account."""

    def __init__(self, hurt: Platform, *, seed: int, seconds: float, log: Path) -> None:
        super().__init__(name="chaos", daemon=True)
        self.platform = hurt
        self.blows: list[Blow] = []
        self._plan = plan(seed=seed, seconds=seconds)
        self._log = log
        self._halted = threading.Event()
        self._over = threading.Event()
        self._began = 0.0
        self._looked_at = 0.0

    @property
    def hits(self) -> list[Blow]:
        """Return the faults that are proven to have hit."""
        return [blow for blow in self.blows if blow.hit]

    @property
    def settled(self) -> bool:
        """Whether everything that was hit is there again."""
        return all(blow.over is not None for blow in self.hits)

    def halt(self) -> None:
        """Strike no more and take back what lasts; go on to look whether what was hit is back."""
        self._halted.set()

    def finish(self) -> None:
        """End the account and write it down."""
        self._over.set()
        self.join(timeout=30)
        self._write()

    def run(self) -> None:
        """Strike what is due, mind what lasts, look whether what was hit is back."""
        self._began = time.monotonic()
        waiting = list(self._plan)
        while not self._over.wait(TICK_SECONDS):
            if waiting and not self._halted.is_set() and self._now() >= waiting[0].at:
                self._strike(waiting.pop(0))
            self._mind(last=self._halted.is_set())
            self.platform.tend()

    def release(self) -> None:
        """Take back at once whatever lasts: also the last word of a soak that is broken off."""
        self._over.set()
        for blow in self.blows:
            if not blow.released:
                self._release(blow)
        self._write()

    def _write(self) -> None:
        self._log.write_text("".join(json.dumps(blow.words()) + "\n" for blow in self.blows))

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _strike(self, planned: Planned) -> None:
        kind = kinds.KINDS[planned.kind]
        fault = kind(self.platform, Random(planned.dice))
        blow = Blow(kind=planned.kind, target=fault.target, fault=fault, at=self._now())
        lasting = any(
            type(other.fault) is kind and not other.released and other.target == blow.target
            for other in self.blows
        )
        self.blows.append(blow)
        try:
            # Twice the same lasting fault at once would be taken back by the first one's end.
            blow.hit = not lasting and fault.strike()
        except UNREACHABLE:
            blow.hit = False
        if not fault.lasts:
            blow.released = True
        elif not blow.hit:
            self._release(blow)

    def _mind(self, *, last: bool = False) -> None:
        look = time.monotonic() - self._looked_at >= LOOK_SECONDS
        for blow in self.blows:
            if not blow.released:
                due = last or self._now() >= blow.at + blow.fault.lasts
                if due:
                    self._release(blow)
                else:
                    self._quietly(blow.fault.hold)
            elif look and blow.hit and blow.over is None and self._quietly(blow.fault.is_over):
                blow.over = self._now()
        if look:
            self._looked_at = time.monotonic()

    def _release(self, blow: Blow) -> None:
        try:
            blow.fault.release()
        except UNREACHABLE:
            return
        blow.released = True

    @staticmethod
    def _quietly(action) -> object:
        try:
            return action()
        except UNREACHABLE:
            return None
