"""Background probes: each asks one dependency every two seconds, in its own thread.

A request for health never waits for a dependency: it reads the last answers and their age. A
dependency that hangs keeps its own thread waiting and nobody else; its answer then grows old, and
that is what is reported.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVERY_SECONDS = 2.0
#: An answer older than this counts as no answer: a probe and its timeout fit in twice.
STALE_SECONDS = 6.0
#: How long the first request after the start waits for the first answers.
FIRST_SECONDS = 0.7
#: How long `stop` waits for each thread.
STOP_SECONDS = 3.0

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe found; `details` are shown as they are."""

    status: str
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Seat:
    """The last answer of one probe, and when it began and ended, on the monotonic clock."""

    answer: Answer | None = None
    answered_at: float = 0.0
    first: threading.Event = field(default_factory=threading.Event)


class Prober:
    """Run probes by name; threads start with the first question, anew in each process."""

    def __init__(
        self,
        probes: Mapping[str, Callable[[], Answer]],
        *,
        release: Callable[[], None] = lambda: None,
        words: Callable[[Exception], str] = lambda error: type(error).__name__,
    ) -> None:
        """Take the probes, what each thread calls at its end, and how errors are told.

        Nothing runs yet.
        """
        self._probes = probes
        self._release = release
        self._words = words
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._pid = 0
        self._seats: dict[str, _Seat] = {}
        self._stop = threading.Event()
        self._started_at = 0.0

    def answers(self) -> dict[str, Answer]:
        """Return the last answer of every probe; one that is too old says so instead."""
        self._ensure_started()
        deadline = self._started_at + FIRST_SECONDS
        for seat in self._seats.values():
            seat.first.wait(max(0.0, deadline - time.monotonic()))
        return {name: self._current(seat) for name, seat in self._seats.items()}

    def stop(self) -> None:
        """End the threads; one that hangs in its dependency is not waited for."""
        self._stop.set()
        self._pid = 0
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def _current(self, seat: _Seat) -> Answer:
        now = time.monotonic()
        if seat.answer is None:
            waited = now - self._started_at
            return Answer(UNHEALTHY, f"no answer since {waited:.0f} s")
        age = now - seat.answered_at
        if age > STALE_SECONDS:
            return Answer(UNHEALTHY, f"no answer since {age:.0f} s", seat.answer.details)
        return seat.answer

    def _ensure_started(self) -> None:
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid == os.getpid():
                return
            self._stop = threading.Event()
            self._started_at = time.monotonic()
            self._seats = {name: _Seat() for name in self._probes}
            self._threads = [
                threading.Thread(
                    target=self._run,
                    args=(name, probe, self._seats[name], self._stop),
                    name=f"probe-{name}",
                    daemon=True,
                )
                for name, probe in self._probes.items()
            ]
            for thread in self._threads:
                thread.start()
            self._pid = os.getpid()

    def _run(
        self, name: str, probe: Callable[[], Answer], seat: _Seat, stop: threading.Event
    ) -> None:
        said = ""
        while not stop.is_set():
            try:
                seat.answer = probe()
                said = ""
            except Exception as exc:  # noqa: BLE001 - whatever a dependency does is its answer
                seat.answer = Answer(UNHEALTHY, self._words(exc))
                if seat.answer.reason != said:
                    said = seat.answer.reason
                    log.warning("probe_failed", probe=name, reason=said, error=_first_line(exc))
            seat.answered_at = time.monotonic()
            seat.first.set()
            stop.wait(EVERY_SECONDS)
        self._release()


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:200] if lines else "no reason given"
