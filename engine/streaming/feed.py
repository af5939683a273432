"""One stream: first what is, then what happens, in the order of ids, each once; then the end."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from engine import sql
from engine.errors import NotFoundError
from engine.streaming import frames, hub
from engine.streaming.seats import seats

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

    from engine.streaming.entries import Entry, Topic
    from engine.streaming.hub import Hub, Subscription

    Chunks = AsyncGenerator[bytes, None]
    Part = Callable[[Hub, Subscription], Chunks]

#: What a client is told to wait before it connects again, in milliseconds; after the end longer:
#: a browser that was not told to stop asks for ever.
RETRY_MILLISECONDS, ENDED_RETRY_MILLISECONDS = 2_000, 60_000
#: How often is asked whether the listener may still listen when no right has changed (a token may
#: have expired), in seconds.
JUDGE_SECONDS = 5.0
#: How long the first event waits for its position; a long transaction must not keep it back.
POSITION_SECONDS = 1.0
#: How long a stream waits after an error of the database before it reads on, in seconds.
AWAY_SECONDS = 1.0
#: Events a page reads; and how far behind a department's stream is begun anew, in ids.
PAGE_EVENTS, TOO_OLD_IDS = 200, 200_000
#: Bytes sent at once, unless a single event has more.
CHUNK_BYTES = 60_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a listener may not listen any more; a stable code, and a sentence for people."""

    code: str
    detail: str


SHUTTING_DOWN = Refusal("shutting_down", "This process is about to end; connect again.")
REWOUND = Refusal("history_rewound", "Another history stands in the database; connect again.")


class _ClosedError(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class Feed:
    """The bytes of one stream; made in any thread, iterated on the event loop.

    show: what the first event, and for a run also the last one, carries (JSON).
    judge: whether the listener may still listen; both are called in a thread, with a database.
    """

    def __init__(
        self,
        topic: Topic,
        *,
        show: Callable[[], dict[str, Any]],
        judge: Callable[[], Refusal | None],
        last_event_id: int | None,
        heartbeat_seconds: float,
        seat: UUID,
        hidden: bool = False,
    ) -> None:
        """Describe a stream; its seat is given back when it is over.

        hidden: leave the payload of events out.
        """
        self._hidden = hidden
        self._topic = topic
        self._show = show
        self._judge = judge
        self._cursor = last_event_id
        self._heartbeat_seconds = heartbeat_seconds
        self._seat = seat
        self._rewinds = 0
        #: Whether the run may have ended: then its row is asked.
        self._has_ended = False
        self._beat_at = self._judged_at = time.monotonic()
        self._rights = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Begin."""
        return self._stream()

    def close(self) -> None:
        """Give the seat free, also when the stream was never begun."""
        seats.give_back(self._seat)

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        seats.begin(self._seat)
        of = hub.current()
        listening = of.subscribe(self._topic)
        self._rewinds = of.rewinds
        try:
            yield frames.retry(RETRY_MILLISECONDS)
            for part in (self._begin, self._follow, self._end):
                async for chunk in self._persistently(part, of, listening):
                    self._beat_at = time.monotonic()
                    yield chunk
        except _ClosedError as exc:
            refusal = {"code": exc.refusal.code, "detail": exc.refusal.detail}
            yield frames.event("closed", json.dumps(refusal))
        finally:
            of.unsubscribe(listening)
            seats.give_back(self._seat)

    async def _persistently(self, part: Part, of: Hub, listening: Subscription) -> Chunks:
        """Go through a part, again from where it was when the database was away meanwhile."""
        while True:
            try:
                async for chunk in part(of, listening):
                    yield chunk
            except sql.CONNECTION_ERRORS:
                listening.fall_behind()
                async for beat in self._idle(of, listening, at_most=AWAY_SECONDS):
                    yield beat
                await self._check(of)
            else:
                return

    # --- the parts of a stream ------------------------------------------------------------------
    async def _begin(self, of: Hub, listening: Subscription) -> Chunks:
        """Go on where the client was, or show what is; the cursor is known after this."""
        while not await of.is_fresh(listening, seconds=POSITION_SECONDS):
            async for beat in self._idle(of, listening, at_most=AWAY_SECONDS):
                yield beat
            await self._check(of)
        if self._cursor is not None and self._is_unknown(of):
            self._cursor = None
        if self._cursor is not None:
            return
        until = time.monotonic() + POSITION_SECONDS
        taken = of.taken
        while (of.position is None or of.position < taken) and time.monotonic() < until:
            await listening.wait(until - time.monotonic())
        if of.position is None:
            # A long transaction stands open: show what is now, and again what is when it is known
            # from where to go on.
            yield frames.event("snapshot", await self._shown(of))
        while of.position is None:
            async for beat in self._idle(of, listening):
                yield beat
            await self._check(of)
        cursor = of.position
        yield frames.event("snapshot", await self._shown(of), id=cursor)
        self._cursor = cursor

    async def _follow(self, of: Hub, listening: Subscription) -> Chunks:
        """Tell events, until there are no more to come."""
        while True:
            if listening.is_behind:
                listening.catch_up()
                self._has_ended = True  # to be found out
                told = self._pages(of)
            elif listening.has_queued:
                told = self._queued(listening)
            else:
                told = self._idle(of, listening)
            async for chunk in told:
                yield chunk
            if self._has_ended and await self._is_over(of):
                return
            await self._check(of)

    async def _end(self, of: Hub, _listening: Subscription) -> Chunks:
        shown = await self._shown(of)
        yield frames.retry(ENDED_RETRY_MILLISECONDS) + frames.event("end", shown)

    # --- what they are made of ------------------------------------------------------------------
    def _is_unknown(self, of: Hub) -> bool:
        """Tell whether the client's last event is of another history, or too long ago."""
        cursor = self._cursor or 0
        is_far = self._topic.kind == "department" and of.taken - cursor > TOO_OLD_IDS
        return cursor > of.taken or is_far

    async def _pages(self, of: Hub) -> Chunks:
        """Read what lies between the cursor and what is queued from now on."""
        target = of.position or 0
        while (self._cursor or 0) < target:
            found, reached = await of.page(
                self._topic, after=self._cursor or 0, upto=target, limit=PAGE_EVENTS
            )
            self._cursor = reached
            for chunk in self._chunks(found):
                yield chunk
            await self._check(of)

    async def _queued(self, listening: Subscription) -> Chunks:
        cursor = self._cursor or 0
        new = [entry for entry in listening.take() if entry.id > cursor]
        self._cursor = max([cursor, *(entry.id for entry in new)])
        self._has_ended |= any(entry.is_ending for entry in new)
        for chunk in self._chunks(new):
            yield chunk

    async def _is_over(self, of: Hub) -> bool:
        """Tell whether the run has ended and all of it is told; a department never ends."""
        if not isinstance(self._topic.name, UUID):
            return False
        has_ended, is_told = await of.ending(self._topic.name, after=self._cursor or 0)
        self._has_ended = has_ended
        return has_ended and is_told

    async def _shown(self, of: Hub) -> str:
        try:
            return json.dumps(await of.ask(self._show))
        except NotFoundError as exc:
            raise _ClosedError(Refusal(exc.code, exc.message)) from exc

    async def _idle(
        self, of: Hub, listening: Subscription, *, at_most: float = JUDGE_SECONDS
    ) -> Chunks:
        """Wait for a ring or for something to be due; beat when it is time to."""
        beat_in = self._beat_at + self._heartbeat_seconds - time.monotonic()
        await listening.wait(max(0.0, min(beat_in, at_most)))
        if time.monotonic() < self._beat_at + self._heartbeat_seconds:
            return
        self._beat_at = time.monotonic()
        is_told = not listening.is_behind and not listening.has_queued
        if self._topic.kind == "department" and is_told and self._cursor is not None:
            # All up to here is told: a quiet department's stream does not grow too old.
            self._cursor = max(self._cursor, of.position or 0)
            yield frames.position(self._cursor)
        else:
            yield frames.HEARTBEAT

    async def _check(self, of: Hub) -> None:
        """Raise when the stream must not go on."""
        if of.is_closing:
            raise _ClosedError(SHUTTING_DOWN)
        if of.rewinds != self._rewinds:
            raise _ClosedError(REWOUND)
        is_due = time.monotonic() - self._judged_at >= JUDGE_SECONDS
        if not is_due and of.rights == self._rights:
            return
        rights = of.rights
        try:
            refusal = await of.judged(self._judge)
        except sql.CONNECTION_ERRORS:
            return  # nothing can be told either; asked again soon
        self._judged_at, self._rights = time.monotonic(), rights
        if refusal is not None:
            raise _ClosedError(refusal)

    def _chunks(self, told: Sequence[Entry]) -> Iterator[bytes]:
        """Join events to pieces worth sending."""
        joined: list[bytes] = []
        size = 0
        for entry in told:
            frame = entry.bare_frame if self._hidden else entry.frame
            joined.append(frame)
            size += len(frame)
            if size > CHUNK_BYTES:
                yield b"".join(joined)
                joined, size = [], 0
        if joined:
            yield b"".join(joined)
