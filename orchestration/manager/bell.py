"""Be told that something waits, instead of looking for it all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from orchestration import streams

if TYPE_CHECKING:
    import threading


class Bell:
    """Listen on the channel that publishers ring.

    A ring that is lost costs one pause: whoever listens looks by itself when it is over.
    """

    def __init__(self) -> None:
        self._listener: Any = None

    def wait(self, seconds: float, *, stop: threading.Event) -> bool:
        """Return whether somebody rang, at the latest after so many seconds."""
        try:
            if self._listener is None:
                self._listener = streams.listener(streams.WAKE)
            rang = bool(self._listener.get_message(timeout=seconds))
            while self._listener.get_message(timeout=0.0):
                rang = True  # one look answers all of them
        except (redis.RedisError, OSError):
            self._listener = None
            stop.wait(seconds)
            return False
        return rang
