"""How soon pages answer while something hangs, told apart from a machine short of processors."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Made once: httpx reads the list of authorities for each request otherwise.
TLS = ssl.create_default_context()
#: A page that asks nobody. When it takes longer than this, the machine is short of processors, and
#: what the others took says nothing of a dependency. Were the threads taken that answer all of
#: them, this one would hang too, and no round would be fair.
YARDSTICK, YARDSTICK_WITHIN, LEAST_ROUNDS = "/livez", 0.3, 5


class Promptness:
    """Ask the same pages in rounds; `pages` are the addresses by the names they are told by."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        assert YARDSTICK in pages
        self._pages = pages
        self._rounds: list[dict[str, float]] = []

    def ask(self) -> dict[str, httpx.Response]:
        """Ask each page once."""
        answers, took = {}, {}
        for name, address in self._pages.items():
            began = time.monotonic()
            answers[name] = httpx.get(address, timeout=10, verify=TLS)
            took[name] = time.monotonic() - began
        self._rounds.append(took)
        return answers

    def slowest(self) -> dict[str, float]:
        """Return the longest time of each page, in the rounds that were fair."""
        fair = [took for took in self._rounds if took[YARDSTICK] < YARDSTICK_WITHIN]
        assert len(fair) >= LEAST_ROUNDS, self._rounds
        return {name: round(max(took[name] for took in fair), 2) for name in self._pages}


@contextlib.contextmanager
def hanging(count: int, call: Callable[[], object]) -> Iterator[None]:
    """Keep so many calls under way, each of which waits for what does not answer."""
    stop = threading.Event()
    begun = threading.Barrier(count + 1, timeout=60)

    def repeat() -> None:
        begun.wait()
        while not stop.is_set():
            with contextlib.suppress(httpx.HTTPError):
                call()

    with ThreadPoolExecutor(count) as pool:
        for _ in range(count):
            pool.submit(repeat)
        begun.wait()
        try:
            yield
        finally:
            stop.set()
