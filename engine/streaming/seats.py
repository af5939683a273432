"""How many streams a process serves, and how many of them one subject may have."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass

#: A seat that no stream has begun on for this long is free again, in seconds: its client went away
#: between the answer and its first byte.
UNBEGUN_SECONDS = 30.0


class FullError(Exception):
    """Say that there is no seat: in the whole process, or for this subject."""

    def __init__(self, *, limit: int, of_subject: bool) -> None:
        super().__init__(f"{limit} streams are open")
        self.limit = limit
        self.of_subject = of_subject


@dataclass(slots=True)
class _Taken:
    subject: str
    at: float
    begun: bool = False


class Seats:
    """The streams of a process; for any thread."""

    def __init__(self) -> None:
        """Begin with all seats free."""
        self._lock = threading.Lock()
        self._taken: dict[uuid.UUID, _Taken] = {}

    def take(self, *, subject: str, of_process: int, of_subject: int) -> uuid.UUID:
        """Take a seat or raise FullError; the limits are how many there may be."""
        with self._lock:
            self._clear_unbegun()
            if len(self._taken) >= of_process:
                raise FullError(limit=of_process, of_subject=False)
            mine = sum(taken.subject == subject for taken in self._taken.values())
            if mine >= of_subject:
                raise FullError(limit=of_subject, of_subject=True)
            seat = uuid.uuid4()
            self._taken[seat] = _Taken(subject, time.monotonic())
            return seat

    def begin(self, seat: uuid.UUID) -> None:
        """Keep the seat until it is given back."""
        with self._lock:
            if seat in self._taken:
                self._taken[seat].begun = True

    def give_back(self, seat: uuid.UUID) -> None:
        """Give a seat back; once is enough."""
        with self._lock:
            self._taken.pop(seat, None)

    def __len__(self) -> int:
        """Return how many are taken."""
        with self._lock:
            self._clear_unbegun()
            return len(self._taken)

    def _clear_unbegun(self) -> None:
        old = time.monotonic() - UNBEGUN_SECONDS
        for seat in [s for s, taken in self._taken.items() if not taken.begun and taken.at < old]:
            del self._taken[seat]


seats = Seats()
