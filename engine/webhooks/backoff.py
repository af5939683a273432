"""When a delivery is tried again. Pure."""

from __future__ import annotations

import random

#: Seconds before the second attempt; each further pause is three times as long, up to the longest.
FIRST_PAUSE_SECONDS, FACTOR, LONGEST_PAUSE_SECONDS = 5.0, 3.0, 6 * 3600.0
#: Each pause is shortened or lengthened by up to this part, so that what failed together does not
#: come back together.
JITTER = 0.1
#: 5 s, 15 s, 45 s, 2 min, 7 min, 20 min, 1 h, 3 h, 6 h, 6 h, 6 h: given up after about 22.6 hours.
MAX_ATTEMPTS = 12
#: A receiver's `Retry-After` is believed up to here.
LONGEST_RETRY_AFTER_SECONDS = LONGEST_PAUSE_SECONDS


def pause_seconds(*, tries: int, retry_after: float | None = None) -> float | None:
    """Return the pause after the n-th failed attempt; None when it was the last one.

    retry_after: what the receiver asked for, in seconds; it lengthens the pause, never shortens it.
    """
    if tries >= MAX_ATTEMPTS:
        return None
    pause = min(FIRST_PAUSE_SECONDS * FACTOR ** (tries - 1), LONGEST_PAUSE_SECONDS)
    pause *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing # nosec B311
    return max(pause, min(retry_after or 0.0, LONGEST_RETRY_AFTER_SECONDS))
