"""How often the fast paths must have been taken for a soak to have said anything about them."""

from __future__ import annotations

import math
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "paths"
#: Each at least so often in so many seconds; in a shorter soak in proportion.
TIMES, SECONDS = 1000, 1800.0
#: However short the soak.
LEAST = 10


class FastPath(Enum):
    """What is counted, one line an event."""

    STICKY = "successors gone on with"
    CHUNK = "claims of several steps"
    GROUP = "commits of several results"
    HAND_BACK = "hand-backs"


def needed(seconds: float) -> int:
    """Return how often each must have happened in a soak of that length."""
    return max(LEAST, math.ceil(TIMES * seconds / SECONDS))


def counted(folder: Path) -> Counter[FastPath]:
    """Return how often each happened, in all processes that lived."""
    found: Counter[FastPath] = Counter(dict.fromkeys(FastPath, 0))
    for log in (folder / FOLDER).glob("*.log"):
        # A line may be cut off by the death of its process.
        known = {path.value: path for path in FastPath}
        found.update(known[line] for line in log.read_text().splitlines() if line in known)
    return found


def missed(folder: Path, *, seconds: float) -> list[str]:
    """Return which of them were taken too seldom."""
    least = needed(seconds)
    return [
        f"{path.value}: {times}, needed are {least}"
        for path, times in counted(folder).items()
        if times < least
    ]
