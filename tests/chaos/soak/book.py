"""What the load generator knows: tickets asked for, accepted, open, ended. Shared by threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.soak.load import Mix, Ticket


class Book:
    """Hand out tickets while few enough runs are open; remember what became of each."""

    def __init__(self, mix: Mix, *, most_open: int) -> None:
        self._mix = mix
        self._most_open = most_open
        self._lock = threading.Lock()
        self._closed = False
        self.tickets: dict[str, Ticket] = {}
        #: Accepted and, as far as is known, not at their end: run id -> ticket.
        self.open: dict[str, Ticket] = {}
        self.unanswered: set[str] = set()
        #: Answers no door should give.
        self.refused: list[str] = []
        self.retries = 0

    def close(self) -> None:
        """Hand out no more tickets."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether the load has ended."""
        return self._closed

    def draw(self, door: str) -> Ticket | None:
        """Return the next ticket to ask for, None when there is none now."""
        with self._lock:
            if self._closed or len(self.open) + len(self.unanswered) >= self._most_open:
                return None
            ticket = self._mix.deal()
            ticket.door, ticket.asked_at = door, time.monotonic()
            self.tickets[ticket.key] = ticket
            self.unanswered.add(ticket.key)
            return ticket

    def accept(self, ticket: Ticket, *, run_id: str) -> None:
        """Note that the platform has taken the responsibility for a run."""
        with self._lock:
            ticket.run_id, ticket.accepted_at = run_id, time.monotonic()
            self.unanswered.discard(ticket.key)
            self.open[run_id] = ticket

    def note_state(self, run_id: str, state: str) -> None:
        """Note where a run is; one at its end is open no more."""
        with self._lock:
            ticket = self.open.get(run_id)
            if ticket is not None:
                ticket.state = state
                if state in ticket.ends:
                    del self.open[run_id]

    def refuse(self, what: str) -> None:
        """Note an answer that no outage explains."""
        with self._lock:
            if len(self.refused) < 100:
                self.refused.append(what)

    def open_ids(self) -> list[str]:
        """Return the runs that are not known to have ended."""
        with self._lock:
            return list(self.open)

    @property
    def accepted(self) -> int:
        """Return how many runs were accepted."""
        return len(self.tickets) - len(self.unanswered)
