"""Let streams end when the process is asked to: uvicorn would wait for them, then break them off.

It tells the application of its end (lifespan) only once every connection is closed. And it dies of
the signal in the end, without anything that is done at exit: spans go out before.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from engine import tracing
from engine.streaming import hub

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_watched: set[int] = set()


def watch() -> None:
    """Put the streams' end before what is done at a signal so far; once is enough.

    Does nothing outside the main thread, which alone may: there somebody else ends the process.
    """
    if _watched or threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        before = signal.getsignal(number)
        if not callable(before):
            continue

        def on_signal(
            given: int, frame: FrameType | None, *, before: signal._HANDLER = before
        ) -> None:
            hub.close()
            tracing.drain()
            if callable(before):
                before(given, frame)

        signal.signal(number, on_signal)
        _watched.add(number)
