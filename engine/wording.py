"""Moments and durations as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

#: Seconds of a unit, its name, and the unit that follows.
_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def moment(at: datetime | None) -> str:
    """Return a moment to the second; database sessions of Django speak UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "an unknown time"


def span(length: timedelta) -> str:
    """Return a duration in its two largest units."""
    total = max(0, int(length.total_seconds()))
    for size, name, below, name_below in _UNITS:
        if total >= size:
            return f"{total // size} {name} {total % size // below} {name_below}"
    return f"{total} s"
