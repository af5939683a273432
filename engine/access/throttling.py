"""How many calls a caller may make: rates, verdicts, the seam to the counter processes share.

The counter lives with the broker, which the engine does not know: `orchestration` registers it. It
is a courtesy among callers and no wall: while the counter is away, every call is let through.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Counted apart: calls that only read, calls that do something, calls without a valid token, and
#: those of each incoming hook.
KINDS = ("read", "write", "anonymous", "hook")
SECONDS = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
_RATE = re.compile(r"(?P<kind>[a-z_]+)=(?P<limit>[0-9]{1,7})/(?P<unit>s|min|h|day)", re.ASCII)
#: A microsecond a call is the finest the counter tells apart, and far above what one Redis counts.
MAX_PER_SECOND = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls at once, and as many again spread over each `seconds`."""

    kind: str
    limit: int
    seconds: int

    @property
    def policy(self) -> str:
        """Return the member of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers)."""
        return f'"{self.kind}";q={self.limit};w={self.seconds}'


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call passes, how many more would at this moment, and when all would again."""

    rate: Rate
    passes: bool
    remaining: int
    #: Until the whole limit is there again, in seconds.
    full_in: float
    #: Until one call passes again, in seconds; 0 while calls pass.
    retry_in: float

    @property
    def state(self) -> str:
        """Return the member of the `RateLimit` field."""
        return f'"{self.rate.kind}";r={self.remaining};t={math.ceil(self.full_in)}'


class Counter(Protocol):
    """Count calls, exactly over all processes; must not raise and must not block for long."""

    def take(self, caller: str, rate: Rate) -> Verdict | None:
        """Count a call of the caller; None when nobody can count now."""
        ...


class _Nobody:
    def take(self, caller: str, rate: Rate) -> Verdict | None:  # noqa: ARG002 - a protocol's signature
        """Let everything pass."""
        return None


_counter: Counter = _Nobody()


def register(counter: Counter) -> None:
    """Name the counter of this process; `OrchestrationConfig.ready()` does."""
    global _counter  # noqa: PLW0603 - one counter per process, set once at start
    _counter = counter


def take(caller: str, rate: Rate) -> Verdict | None:
    """Count a call; return whether it passes, None when nobody can count now."""
    return _counter.take(caller, rate)


def parse(words: Iterable[str]) -> dict[str, Rate]:
    """Return the rates of `kind=limit/unit` words by their kind; a kind not named has no limit.

    Raises ValueError naming the word that is wrong and what is wanted.
    """
    found: dict[str, Rate] = {}
    for word in words:
        match = _RATE.fullmatch(word)
        if match is None or match["kind"] not in KINDS or match["kind"] in found:
            raise ValueError(
                f"{word!r}: each of {', '.join(KINDS)} once, as in read=600/min "
                f"({', '.join(SECONDS)})"
            )
        limit, seconds = int(match["limit"]), SECONDS[match["unit"]]
        if not 0 < limit <= MAX_PER_SECOND * seconds:
            raise ValueError(f"{word!r}: between 1 and {MAX_PER_SECOND} a second")
        found[match["kind"]] = Rate(match["kind"], limit, seconds)
    return found
