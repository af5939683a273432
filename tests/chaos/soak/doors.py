"""The doors a run comes in by. Each asks again, with the same key, until it has an answer."""

from __future__ import annotations

import json
import threading
import time
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import redis

if TYPE_CHECKING:
    from tests.chaos.soak.book import Book
    from tests.chaos.soak.load import Ticket
    from tests.chaos.soak.platform import Platform

#: Runs per second by door, as shares of the whole rate.
SHARES = {"POST /runs": 0.4, "engine": 0.35, "XADD": 0.25}
#: How long one request may take: web, or what it needs, may stand still.
REQUEST_SECONDS = 8.0
RETRY_SECONDS = (0.2, 1.0)
IDLE_SECONDS = 0.05
#: A pause longer than this is not made up for.
CATCH_UP_SECONDS = 10.0
STREAM, GROUP = "automation.events", "manager"
#: An entry that is not acknowledged after this is looked for, and sent again when it is gone.
RESEND_SECONDS = 3.0
CHECK_SECONDS = 0.5
MANY_REQUESTS = 429
SERVER_ERROR = 500


class Api:
    """The HTTP face, as a careful client uses it. One per thread."""

    def __init__(self, platform: Platform) -> None:
        self._client = httpx.Client(
            base_url=platform.stack.url,
            timeout=REQUEST_SECONDS,
            trust_env=False,
            headers={"Authorization": f"Bearer {platform.token}"},
        )

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer, None when there was none or it asks to come again."""
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError:
            return None
        if answer.status_code >= SERVER_ERROR or answer.status_code == MANY_REQUESTS:
            return None
        return answer


class Door(threading.Thread):
    """Ask for runs at a steady rate, until the book is closed and everything is answered."""

    name_of_door = ""

    def __init__(self, platform: Platform, book: Book, *, rate: float, seed: int) -> None:
        super().__init__(name=f"door {self.name_of_door}", daemon=True)
        self.platform = platform
        self.book = book
        self.stop = threading.Event()
        self._rate = rate
        self._dice = Random(f"{self.name_of_door} {seed}")
        self._due = time.monotonic()

    def run(self) -> None:
        """Draw tickets as they are due and ask for each until it is answered."""
        while not self.stop.is_set() and not self.book.closed:
            ticket = self.draw()
            if ticket is None:
                self.stop.wait(IDLE_SECONDS)
                continue
            while not self.stop.is_set() and not self.ask(ticket):
                self.book.retries += 1
                self.stop.wait(self._dice.uniform(*RETRY_SECONDS))

    def draw(self) -> Ticket | None:
        """Return a ticket when the next one is due."""
        now = time.monotonic()
        if now < self._due:
            return None
        ticket = self.book.draw(self.name_of_door)
        if ticket is not None:
            self._due = max(self._due + 1 / self._rate, now - CATCH_UP_SECONDS)
        return ticket

    def ask(self, ticket: Ticket) -> bool:
        """Ask once; return whether there was an answer."""
        raise NotImplementedError


class HttpDoor(Door):
    """`POST /runs` with a dedupe key: durable once answered."""

    name_of_door = "POST /runs"
    _api: Api | None = None

    def ask(self, ticket: Ticket) -> bool:
        self._api = self._api or Api(self.platform)
        ticket.dedupe_key = ticket.key
        body = {
            "automation": ticket.automation,
            "input": ticket.input,
            "dedupe_key": ticket.key,
            "tags": [ticket.kind],
        }
        answer = self._api.ask("POST", "/runs", body)
        if answer is None:
            return False
        if answer.status_code in {200, 201}:
            self.book.accept(ticket, run_id=answer.json()["id"])
        else:
            self.book.refuse(f"POST /runs {ticket.key}: {answer.status_code} {answer.text[:300]}")
        return True


class EngineDoor(Door):
    """`engine.runs.submit`, as commands, schedules and the admin call it."""

    name_of_door = "engine"

    def ask(self, ticket: Ticket) -> bool:
        from django.db import Error, connection  # noqa: PLC0415 - needs settings

        from engine import runs  # noqa: PLC0415 - same

        ticket.dedupe_key = ticket.key
        try:
            submitted = runs.submit(
                automation=ticket.automation,
                input=ticket.input,
                trigger="command",
                created_by="soak",
                dedupe_key=ticket.key,
                tags=[ticket.kind],
            )
        except (Error, psycopg.Error):
            connection.close()
            return False
        self.book.accept(ticket, run_id=str(submitted.run_id))
        return True


class EventsDoor(Door):
    """`XADD automation.events`: durable once acknowledged; sent again when Redis lost it before.

    Acknowledged means: the entry stands in the stream, was delivered to the group, and is pending
    no more. Its run must exist from that moment on.
    """

    name_of_door = "XADD"

    def __init__(self, platform: Platform, book: Book, *, rate: float, seed: int) -> None:
        super().__init__(platform, book, rate=rate, seed=seed)
        self._client = platform.redis()
        self._sent: dict[str, tuple[Ticket, str, float]] = {}
        self._checked_at = 0.0
        self._database: psycopg.Connection | None = None

    def run(self) -> None:
        """Send what is due, and follow what was sent until it is acknowledged."""
        while not self.stop.is_set() and (not self.book.closed or self._sent):
            ticket = self.draw()
            if ticket is not None:
                ticket.dedupe_key = f"event:{ticket.key}"
                self._send(ticket)
            if time.monotonic() - self._checked_at > CHECK_SECONDS:
                self._checked_at = time.monotonic()
                try:
                    self._check()
                except (redis.RedisError, psycopg.Error):
                    self._database = None
            if ticket is None:
                self.stop.wait(IDLE_SECONDS)

    def _send(self, ticket: Ticket) -> None:
        """Append the request; without an answer it stays to be sent again."""
        entry = ""
        try:
            entry = self._client.xadd(
                STREAM,
                {
                    "event_type": "automation.run.requested",
                    "event_id": ticket.key,
                    "automation": ticket.automation,
                    "data": json.dumps(ticket.input),
                },
            )
        except redis.RedisError:
            self.book.retries += 1
        self._sent[ticket.key] = (ticket, entry, time.monotonic())

    def _check(self) -> None:
        """Find out which entries are acknowledged and which are gone."""
        followed = [(ticket, entry) for ticket, entry, _ in self._sent.values() if entry]
        with self._client.pipeline(transaction=True) as pipe:
            pipe.xinfo_groups(STREAM)
            for _, entry in followed:
                pipe.xrange(STREAM, min=entry, max=entry)
                pipe.xpending_range(STREAM, GROUP, min=entry, max=entry, count=1)
            replies = pipe.execute(raise_on_error=False)
        groups = replies[0] if isinstance(replies[0], list) else []
        delivered = [found["last-delivered-id"] for found in groups if found["name"] == GROUP]
        acknowledged = [
            ticket
            for (ticket, entry), there, pending in zip(
                followed, replies[1::2], replies[2::2], strict=True
            )
            if there and pending == [] and delivered and _order(entry) <= _order(delivered[0])
            if not isinstance(there, Exception)
        ]
        self._accept(acknowledged)
        gone = {
            ticket.key
            for (ticket, _), there in zip(followed, replies[1::2], strict=True)
            if there == []
        }
        for key, (ticket, entry, sent_at) in list(self._sent.items()):
            late = time.monotonic() - sent_at > RESEND_SECONDS
            if (key in gone or not entry) and late:
                self.book.retries += 1
                self._send(ticket)

    def _accept(self, tickets: list[Ticket]) -> None:
        """Look up the runs of acknowledged entries; a missing one is a lost run."""
        if not tickets:
            return
        if self._database is None or self._database.closed:
            self._database = self.platform.database()
        keys = [ticket.dedupe_key for ticket in tickets]
        found = dict(
            self._database.execute(
                "SELECT dedupe_key, id::text FROM engine_run WHERE dedupe_key = ANY(%s)", [keys]
            ).fetchall()
        )
        for ticket in tickets:
            del self._sent[ticket.key]
            # Accepted it is in any case: without a run the verdict will not find it.
            self.book.accept(ticket, run_id=found.get(ticket.dedupe_key, f"lost {ticket.key}"))


def _order(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)


DOORS: dict[str, type[Door]] = {
    door.name_of_door: door for door in (HttpDoor, EngineDoor, EventsDoor)
}
