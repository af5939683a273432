"""Patch the parent of a worker: `deaf`, `hung`; and `hasty`, which shortens what is long."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kombu.transport import redis as transport

from orchestration import alarm, canary

FOLDER = Path(os.environ["BROKEN_WORKER"])


def _is_wanted(fault: str) -> bool:
    return (FOLDER / fault).exists()


_brpop_start = transport.Channel._brpop_start
_tick = canary.CanaryStep._tick


def brpop_start(channel, *args, **kwargs):
    """Ask for no message, as if the last request had been forgotten."""
    if not _is_wanted("deaf"):
        _brpop_start(channel, *args, **kwargs)


def tick(step, consumer):
    """Stand still in the middle of the event loop."""
    while _is_wanted("hung"):
        time.sleep(0.1)
    _tick(step, consumer)


transport.Channel._brpop_start = brpop_start
canary.CanaryStep._tick = tick
if _is_wanted("hasty"):
    canary.ASK_SECONDS, canary.DEAF_SECONDS = 1.0, 4.0
    alarm.LOOK_SECONDS = 1.0
