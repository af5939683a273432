"""Post many letters at once, beside the thread that claims and records: it never waits for one."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from engine.webhooks import posting
from engine.webhooks.posting import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from engine.webhooks.addresses import Network
    from engine.webhooks.deliveries import Claimed
    from engine.webhooks.posting import Letter, Resolve

#: Names that may be looked up at once: the system's resolver can be neither awaited nor stopped.
LOOK_UPS_AT_ONCE = 16


class Sender:
    """An event loop in a thread of its own, begun with the first letter. Touches no database."""

    def __init__(self, *, allowed: Sequence[Network], resolve: Resolve | None = None) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tls = posting.verifying()
        self._flying: dict[int, tuple[Claimed, Future[Answer]]] = {}

    def send(self, claimed: Claimed, letter: Letter) -> None:
        """Begin to post a letter; what comes of it is in `finished` later on."""
        work = posting.post(letter, allowed=self._allowed, resolve=self._resolve, tls=self._tls)
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        self._flying[claimed.id] = (claimed, future)

    def finished(self) -> list[tuple[Claimed, Answer]]:
        """Return what has been answered, each until it is told `done`."""
        return [
            (claimed, _answer(future))
            for claimed, future in list(self._flying.values())
            if future.done()
        ]

    def done(self, claimed: Claimed) -> None:
        """Forget a letter: what came of it is recorded."""
        self._flying.pop(claimed.id, None)

    @property
    def busy(self) -> Counter[int]:
        """Return how many letters of each endpoint are on the way, or not recorded yet."""
        return Counter(claimed.endpoint_id for claimed, _ in self._flying.values())

    def close(self) -> list[Claimed]:
        """End what is on the way; return the deliveries of which nothing is recorded."""
        left = [claimed for claimed, _ in self._flying.values()]
        self._flying.clear()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None
        return left

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            loop.set_default_executor(
                ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="webhook-names")
            )
            threading.Thread(target=_turn, args=(loop,), name="webhook-sender", daemon=True).start()
            self._loop = loop
        return self._loop


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


def _answer(future: Future[Answer]) -> Answer:
    if future.cancelled() or future.exception() is not None:
        return Answer("unexpected_error", excerpt="the attempt was broken off")
    return future.result()
