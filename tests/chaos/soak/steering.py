"""The operator of the soak: follows the runs, cancels, pauses, resumes, requeues, discards."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from itertools import count
from random import Random
from typing import TYPE_CHECKING

import psycopg

from tests.chaos.soak.doors import Api
from tests.chaos.soak.load import DEPARTMENTS

if TYPE_CHECKING:
    from tests.chaos.soak.book import Book
    from tests.chaos.soak.load import Ticket
    from tests.chaos.soak.platform import Platform

LOOK_SECONDS = 0.5
#: How long after it was accepted a run is cancelled or paused; how long a pause is.
PLAN_SECONDS = {"cancel": (0.0, 1.5), "pause": (0.0, 0.5)}
PAUSED_SECONDS = (0.5, 3.0)
LETTER_SECONDS = (0.2, 2.0)
#: Now and then a whole department stands still for a moment.
DEPARTMENT_EVERY_SECONDS = (15.0, 30.0)
DEPARTMENT_PAUSED_SECONDS = (0.5, 1.5)
TRY_AGAIN_SECONDS = 0.5
CONFLICT = 409
LETTERS = """
SELECT d.id, d.run_id::text, r.state FROM engine_deadletter d JOIN engine_run r ON r.id = d.run_id
WHERE d.state = 'open' AND r.state NOT IN ('cancelled', 'timed_out', 'cancelling')
ORDER BY d.id LIMIT 200
"""
PAUSED = "SELECT id::text FROM engine_run WHERE state = 'paused'"
STATES = "SELECT id::text, state FROM engine_run WHERE id = ANY(%s::uuid[])"


class Operator(threading.Thread):
    """One thread, one connection, one client: everything that a person would do."""

    def __init__(self, platform: Platform, book: Book, *, seed: int) -> None:
        super().__init__(name="operator", daemon=True)
        self.platform = platform
        self.book = book
        self.stop = threading.Event()
        self.acts: Counter[str] = Counter()
        self._dice = Random(f"operator {seed}")
        self._api = Api(platform)
        self._database: psycopg.Connection | None = None
        self._agenda: list[tuple[float, int, str, str]] = []
        self._number = count()
        self._seen: set[str] = set()
        self._letters: set[int] = set()
        self._department_at = time.monotonic() + self._dice.uniform(*DEPARTMENT_EVERY_SECONDS)
        self.open_letters = 0

    def run(self) -> None:
        """Look, note, act; through every outage."""
        while not self.stop.wait(LOOK_SECONDS):
            try:
                self._look()
            except psycopg.Error:
                self._database = None
                continue
            self._act()

    def _look(self) -> None:
        if self._database is None or self._database.closed:
            self._database = self.platform.database()
        for ticket in list(self.book.open.values()):
            if ticket.run_id not in self._seen:
                self._seen.add(ticket.run_id)
                self._plan(ticket)
        ids = [run_id for run_id in self.book.open_ids() if not run_id.startswith("lost")]
        for run_id, state in self._database.execute(STATES, [ids]).fetchall():
            self.book.note_state(run_id, state)
        letters = self._database.execute(LETTERS).fetchall()
        self.open_letters = len(letters)
        for letter, run_id, state in letters:
            ticket = self.book.open.get(run_id)
            discarded = ticket is not None and ticket.plan == "discard"
            if letter not in self._letters and not (discarded and state == "failed"):
                self._letters.add(letter)
                self._later(
                    self._dice.uniform(*LETTER_SECONDS),
                    "discard" if discarded else "requeue",
                    str(letter),
                )
        if self.book.closed:
            for (run_id,) in self._database.execute(PAUSED).fetchall():
                self._later(0.0, "resume", run_id)
        elif time.monotonic() > self._department_at:
            self._department_at = time.monotonic() + self._dice.uniform(*DEPARTMENT_EVERY_SECONDS)
            self._later(0.0, "pause department", self._dice.choice(DEPARTMENTS))

    def _plan(self, ticket: Ticket) -> None:
        if ticket.plan in PLAN_SECONDS:
            self._later(self._dice.uniform(*PLAN_SECONDS[ticket.plan]), ticket.plan, ticket.run_id)

    def _later(self, seconds: float, what: str, whom: str) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._number), what, whom))

    def _act(self) -> None:
        while self._agenda and self._agenda[0][0] <= time.monotonic():
            _, _, what, whom = heapq.heappop(self._agenda)
            self._do(what, whom)

    def _do(self, what: str, whom: str) -> None:
        """Do one thing; without an answer do it again later."""
        paths = {
            "cancel": f"/runs/{whom}/cancel",
            "pause": f"/runs/{whom}/pause",
            "resume": f"/runs/{whom}/resume",
            "requeue": f"/dead-letters/{whom}/requeue",
            "discard": f"/dead-letters/{whom}/discard",
            "pause department": f"/departments/{whom}/pause",
            "resume department": f"/departments/{whom}/resume",
        }
        answer = self._api.ask("POST", paths[what])
        if answer is None:
            self._later(TRY_AGAIN_SECONDS, what, whom)
            return
        if answer.is_success:
            self.acts[what] += 1
        elif answer.status_code != CONFLICT:
            self.book.refuse(f"{what} {whom}: {answer.status_code} {answer.text[:300]}")
        if what == "pause":
            self._later(self._dice.uniform(*PAUSED_SECONDS), "resume", whom)
        elif what == "pause department":
            self._later(self._dice.uniform(*DEPARTMENT_PAUSED_SECONDS), "resume department", whom)
        elif what in {"requeue", "discard"} and answer.status_code == CONFLICT:
            # The run is on its way to its end, or was ended: the next look decides.
            self._letters.discard(int(whom))
