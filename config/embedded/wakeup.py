"""Turn signals into something `select` can wait for, also where `sigtimedwait` is missing."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DRAIN_BYTES = 4096


def wake_on(numbers: Iterable[signal.Signals], note: Callable[[int, object], None]) -> int:
    """Return a descriptor that becomes readable when one of the signals arrives."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    for number in numbers:
        signal.signal(number, note)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def drain(descriptor: int) -> None:
    """Make the descriptor unreadable until the next signal."""
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, DRAIN_BYTES)
