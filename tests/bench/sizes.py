"""How much is measured, and in which order. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECTIONS = ("W1", "W2", "W3", "W4", "API", "COSTS", "TUPLES")
#: Takes minutes, and no target hangs on it.
FULL_ONLY = frozenset({"TUPLES"})
CHAIN = 40
SHORT = 3


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How often and how much; times are seconds."""

    repetitions: int
    #: Of W1 in a repetition, whose figure is their median: one alone is over in no time.
    chains: int
    fan: int = 1000
    burst: int = 1000
    latencies: int = 100
    api_seconds: float = 10.0
    api_rate: float = 50.0
    api_runs: int = 100
    idle_seconds: float = 10.0
    #: Of W1 in the account of costs, where the kernel counts time in hundredths of a second.
    cost_chains: int = 25
    cost_latencies: int = 200
    tuple_fans: int = 60
    tuple_runs: int = 13_334

    def repeated(self, repetitions: int) -> Sizes:
        """Return the same, so many times."""
        return replace(self, repetitions=repetitions)


FULL = Sizes(repetitions=5, chains=5)
QUICK = Sizes(
    repetitions=2,
    chains=3,
    burst=400,
    latencies=50,
    api_seconds=4.0,
    api_runs=40,
    idle_seconds=3.0,
    cost_chains=10,
    cost_latencies=50,
)


def orders(sides: Sequence[str], *, seed: int) -> Iterator[tuple[str, ...]]:
    """Yield the order of the sides, another one each repetition, until all have been."""
    dice = Random(f"bench {seed}")
    while True:
        hand = list(itertools.permutations(sides))
        dice.shuffle(hand)
        yield from hand


def sections(text: str, *, quick: bool) -> tuple[str, ...]:
    """Read `W1,W3`; nothing means all. Raise ValueError for a section that there is not."""
    if not text:
        return tuple(name for name in SECTIONS if not (quick and name in FULL_ONLY))
    asked = {word.strip().upper() for word in text.split(",")}
    unknown = asked - set(SECTIONS)
    if unknown:
        raise ValueError(f"no section {', '.join(sorted(unknown))}; there are {SECTIONS}")
    return tuple(name for name in SECTIONS if name in asked)
