"""How long the bodies of steps take in this process: what is expected of the next one."""

from __future__ import annotations

#: Weight of the newest measurement: five times as slow as before is believed after two of them.
NEWEST = 0.3
#: Steps remembered; beyond it everything is forgotten and learned again.
MAX_STEPS = 10_000

_seconds: dict[str, float] = {}


def note(*, step: str, seconds: float) -> None:
    """Remember how long a body of this step took."""
    before = _seconds.get(step)
    if before is None and len(_seconds) >= MAX_STEPS:
        _seconds.clear()
    _seconds[step] = seconds if before is None else before + NEWEST * (seconds - before)


def expected(*, step: str) -> float | None:
    """Return the seconds that a body of this step is expected to take; None for an unknown one."""
    return _seconds.get(step)
