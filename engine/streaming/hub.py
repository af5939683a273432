"""One reader for all who listen in this process: looks at the history, hands on what is new.

It reads in one thread over one connection, and only while somebody listens. Each listener has a
short queue; who is slower than that reads on page by page, in that same thread, when he is ready.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import structlog
from django import db

from engine import sql
from engine.access import snapshot
from engine.streaming import entries
from engine.streaming.entries import Topic
from engine.streaming.tail import RewoundError, Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.streaming.entries import Entry

#: How often is looked while nothing happens, and while something is on its way, in seconds.
LOOK_SECONDS, BUSY_SECONDS = 0.2, 0.05
#: How often is asked whether anybody's right to listen has changed, in seconds. With the age of
#: what the process knows (`snapshot.FRESH_SECONDS`) it keeps to the second that is promised.
RIGHTS_SECONDS = 0.25
#: How long the reader waits after an error of the database, in seconds.
AWAY_SECONDS = 1.0
#: Events that wait for one listener; and how many of one topic a look reads.
QUEUE_EVENTS = 500
#: Events of all departments that one look reads.
LOOK_EVENTS = 5_000

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _News:
    """What a look has found: for whom, and which topics have more than it has read."""

    position: int | None
    taken: int
    found: list[tuple[Topic, Entry]] = field(default_factory=list)
    unread: set[Topic] = field(default_factory=set)


class Subscription:
    """What one listener has not taken yet. Of the event loop; no other thread touches it."""

    def __init__(self, topic: Topic) -> None:
        """Listen to a topic; behind at first: what there is so far is read by pages."""
        self.topic = topic
        self.is_behind = True
        self._queue: deque[Entry] = deque()
        self._bell = asyncio.Event()

    def offer(self, entry: Entry) -> None:
        """Queue an event; where there is no room, all are left to be read by pages."""
        if not self.is_behind and len(self._queue) >= QUEUE_EVENTS:
            self.fall_behind()
        if not self.is_behind:
            self._queue.append(entry)
        self._bell.set()

    def fall_behind(self) -> None:
        """Let what comes be read by pages."""
        self.is_behind = True
        self._queue.clear()

    @property
    def has_queued(self) -> bool:
        """Tell whether something is queued."""
        return bool(self._queue)

    def catch_up(self) -> None:
        """Queue from now on again."""
        self.is_behind = False

    def take(self) -> list[Entry]:
        """Return what is queued, and empty the queue."""
        found = list(self._queue)
        self._queue.clear()
        return found

    def ring(self) -> None:
        """Wake the listener."""
        self._bell.set()

    async def wait(self, seconds: float) -> None:
        """Wait for a ring, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            pass
        self._bell.clear()


class Hub:
    """Everybody who listens in this process."""

    def __init__(self) -> None:
        """Start nothing: the first listener does."""
        self.loop = asyncio.get_running_loop()
        #: Up to here everything is final, and has been handed on; None while that is unknown.
        self.position: int | None = None
        self.is_closing = False
        #: How often another history was found in the database.
        self.rewinds = 0
        #: The version of keys, revocations and roles by which listeners were last judged.
        self.rights = 0
        self._tail = Tail()
        #: Ids up to here have been taken, by whomever.
        self.taken = 0
        # What the streams ask beside (who may still listen, what a run looks like) does not hold
        # up what they are told.
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="streams-read")
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="streams-ask")
        self._judging = ThreadPoolExecutor(1, thread_name_prefix="streams-judge")
        self._subscriptions: dict[Topic, set[Subscription]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()
        self._begun = self._done = 0

    @property
    def listeners(self) -> int:
        """Return how many listen."""
        return sum(len(found) for found in self._subscriptions.values())

    def subscribe(self, topic: Topic) -> Subscription:
        """Listen to a topic from now on; end it with `unsubscribe`."""
        found = Subscription(topic)
        self._subscriptions.setdefault(topic, set()).add(found)
        if self._reader is None or self._reader.done():
            self._reader = self.loop.create_task(self._read())
        if self._watcher is None or self._watcher.done():
            self._watcher = self.loop.create_task(self._watch_rights())
        return found

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop listening; once is enough."""
        found = self._subscriptions.get(subscription.topic, set())
        found.discard(subscription)
        if not found:
            self._subscriptions.pop(subscription.topic, None)
        if not self._subscriptions:
            self._nudge.set()

    async def is_fresh(self, subscription: Subscription, *, seconds: float) -> bool:
        """Wait for a look that begins after this; False when it takes longer."""
        wanted = self._begun + 1
        until = self.loop.time() + seconds
        self._nudge.set()
        while self._done < wanted:
            left = until - self.loop.time()
            if left <= 0 or self.is_closing:
                return False
            await subscription.wait(left)
        return True

    async def ask(self, action: Callable[[], T]) -> T:
        """Run a short read over Django's connection, which is given back after it."""
        return await self.loop.run_in_executor(self._asking, _tidily, action)

    async def judged(self, action: Callable[[], T]) -> T:
        """Ask likewise who may still listen: not behind what new listeners are shown."""
        return await self.loop.run_in_executor(self._judging, _tidily, action)

    async def page(
        self, topic: Topic, *, after: int, upto: int, limit: int
    ) -> tuple[list[Entry], int]:
        """Return the next events of a topic and up to which id these are all there are."""
        read = partial(
            entries.page, self._tail.rows, topic=topic, after=after, upto=upto, limit=limit
        )
        return await self.loop.run_in_executor(self._reading, read)

    async def ending(self, run_id: UUID, *, after: int) -> tuple[bool, bool]:
        """Return whether a run has ended (or is gone), and whether nothing is left to tell."""
        read = partial(entries.ending, self._tail.rows, run_id=run_id, after=after)
        return await self.loop.run_in_executor(self._reading, read)

    def close(self) -> None:
        """Let every stream end: the process is about to."""
        self.is_closing = True
        self._nudge.set()
        self._ring()

    # --- the reader ---------------------------------------------------------------------------
    async def _read(self) -> None:
        is_away = False
        while True:
            while self._subscriptions and not self.is_closing:
                self._nudge.clear()
                self._begun += 1
                try:
                    await self._look()
                    seconds = BUSY_SECONDS if self._tail.is_waiting else LOOK_SECONDS
                    is_away = False
                except RewoundError:
                    self._rewind()
                    seconds = LOOK_SECONDS
                except sql.CONNECTION_ERRORS as exc:
                    if not is_away:
                        log.warning("streams_wait_for_database", error=type(exc).__name__)
                    is_away = True
                    seconds = AWAY_SECONDS
                except Exception:
                    # Whatever it was: the reader must not end while others listen.
                    log.exception("streams_look_failed")
                    seconds = AWAY_SECONDS
                await self._pause(seconds)
            await self.loop.run_in_executor(self._reading, self._tail.close)
            # Nothing is awaited from here to the end: who subscribes later finds it done.
            if not self._subscriptions or self.is_closing:
                return

    async def _watch_rights(self) -> None:
        """Have everybody judged again when a token was revoked or a role has changed."""
        while self._subscriptions and not self.is_closing:
            version = self.rights
            try:
                version = await self.judged(lambda: snapshot.current().revocations.version)
            except sql.CONNECTION_ERRORS:
                pass  # nothing is told either
            except Exception:
                # Whatever it was: the question must go on being asked while others listen.
                log.exception("streams_rights_unknown")
            if version != self.rights:
                self.rights = version
                self._ring()
            await asyncio.sleep(RIGHTS_SECONDS)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._nudge.wait()
        except TimeoutError:
            pass

    async def _look(self) -> None:
        wanted = frozenset(self._subscriptions)
        before = self.position
        news = await self.loop.run_in_executor(self._reading, self._news, wanted, before)
        self.position, self.taken = news.position, news.taken
        self._done = self._begun
        for topic, listening in self._subscriptions.items():
            is_unread = topic in news.unread or topic not in wanted
            if is_unread and news.position != before:
                for subscription in listening:
                    subscription.fall_behind()
        for topic, entry in news.found:
            for subscription in self._subscriptions.get(topic, ()):
                subscription.offer(entry)
        self._ring(only_behind=True)

    def _rewind(self) -> None:
        log.warning("history_rewound", position=self.position)
        self.position = None
        self.rewinds += 1
        self._ring()

    def _ring(self, *, only_behind: bool = False) -> None:
        for listening in self._subscriptions.values():
            for subscription in listening:
                if subscription.is_behind or not only_behind:
                    subscription.ring()

    def _news(self, wanted: frozenset[Topic], before: int | None) -> _News:
        """Look, in the reader's thread."""
        position = self._tail.look()
        news = _News(position, self._tail.taken)
        if position is None or position == before:
            return news
        if before is None:
            news.unread |= wanted
            return news
        runs = [topic.name for topic in wanted if isinstance(topic.name, UUID)]
        departments = [topic.name for topic in wanted if isinstance(topic.name, str)]
        rows, between = self._tail.rows, {"after": before, "upto": position}
        if runs:
            found = entries.of_runs(rows, runs=runs, limit=QUEUE_EVENTS, **between)
            often = Counter(entry.told.run_id for entry in found)
            news.unread |= {Topic("run", run) for run, n in often.items() if n == QUEUE_EVENTS}
            news.found += [(Topic("run", entry.told.run_id), entry) for entry in found]
        if departments:
            is_far = position - before > entries.WINDOW_IDS
            found = (
                []
                if is_far
                else entries.of_departments(
                    rows, departments=departments, limit=LOOK_EVENTS, **between
                )
            )
            if is_far or len(found) == LOOK_EVENTS:
                news.unread |= {Topic("department", name) for name in departments}
            news.found += [(Topic("department", entry.told.department), entry) for entry in found]
        return news


_hub: Hub | None = None


def current() -> Hub:
    """Return the hub of this process; call it on the event loop."""
    global _hub  # noqa: PLW0603 - one for the process is the point
    if _hub is None or _hub.loop is not asyncio.get_running_loop():
        _hub = Hub()
    return _hub


def close() -> None:
    """Let the streams of this process end; from any thread, also when there is none."""
    if _hub is not None and not _hub.loop.is_closed():
        _hub.loop.call_soon_threadsafe(_hub.close)


def _tidily(action: Callable[[], T]) -> T:
    try:
        return action()
    finally:
        db.close_old_connections()
