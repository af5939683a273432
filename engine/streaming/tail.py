"""How far the history can be told: the id below which no event can appear any more.

An event has its id before its transaction commits, so a lower id may appear after a higher one,
and who has told the higher one would never tell the lower. What is told is therefore only what is
final: of all ids up to a position, each is committed or never will be.

An INSERT takes its lock on the table before it takes an id, and gives it back after its commit can
be seen. So: read how far ids have been taken, then who holds that lock. Once each of those has
ended, all ids up to there are final. No column, no index, and no word of those who write.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import sql
from engine.postgresql import apart

if TYPE_CHECKING:
    from engine.postgresql.bounded import Connection

NAME = "ai-business-engine-streams"
# `local`: what is waited for is this server's disk, not a standby's.
SESSION = {"timezone": "UTC", "synchronous_commit": "local"}

TAKEN = """
SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM engine_runevent_id_seq
"""
WRITERS = """
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = 'engine_runevent'::regclass
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mode = 'RowExclusiveLock' AND granted
"""
LOG = """
SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, (pg_current_wal_flush_lsn() - '0/0')::bigint
"""
# A commit that waits for the disk takes everything before it along.
FLUSH = "SELECT pg_logical_emit_message(true, 'streams', '')"

#: More open marks than this are not kept: the last one is moved on instead.
MOST_MARKS = 20
#: Looks after which a log that nobody flushes is flushed from here.
PATIENT_LOOKS = 3


class _Mark(NamedTuple):
    """Ids up to `position` were taken by the time that `writers` held the lock."""

    position: int
    writers: frozenset[str]


class _Ended(NamedTuple):
    """All ids up to `position` are visible or void; what says so ends before `log` (bytes)."""

    position: int
    log: int


class Tail:
    """The end of the history, looked at by one thread over one connection of its own."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._connection: Connection | None = None
        self._position: int | None = None
        self._marks: deque[_Mark] = deque()
        self._ended: deque[_Ended] = deque()
        self._unflushed_looks = 0
        #: How far ids had been taken at the last look.
        self.taken = -1

    @property
    def is_waiting(self) -> bool:
        """Tell whether something is known to be written that is not final yet."""
        return bool(self._marks or self._ended)

    def look(self) -> int | None:
        """Return the position up to which everything is final, None while that is unknown.

        Raises RewoundError when ids have been taken back: another history stands in the database.
        """
        taken = int(self.rows(TAKEN)[0][0])
        if taken < self.taken:
            self.forget()
            raise RewoundError
        if taken == self.taken and not self.is_waiting:
            return self._position
        self.taken = taken
        writers = frozenset(row[0] for row in self.rows(WRITERS))
        self._mark(taken, writers)
        self._pass_marks(writers)
        self._pass_log()
        return self._position

    def _mark(self, taken: int, writers: frozenset[str]) -> None:
        last = self._marks[-1].position if self._marks else self._position
        if self._ended and not self._marks:
            last = self._ended[-1].position
        if taken == last:
            return
        if len(self._marks) == MOST_MARKS:
            self._marks.pop()
        self._marks.append(_Mark(taken, writers))

    def _pass_marks(self, writers: frozenset[str]) -> None:
        reached: int | None = None
        while self._marks and not self._marks[0].writers & writers:
            reached = self._marks.popleft().position
        if reached is None:
            return
        # Claims are committed without waiting for the disk: what a crash of the server could take
        # back must not be told, or its id would come again with another event.
        if len(self._ended) == MOST_MARKS:
            self._ended.pop()
        self._ended.append(_Ended(reached, int(self.rows(LOG)[0][0])))

    def _pass_log(self) -> None:
        if not self._ended:
            return
        if self._unflushed_looks >= PATIENT_LOOKS:
            self.rows(FLUSH)
        flushed = int(self.rows(LOG)[0][1])
        before = self._position
        while self._ended and self._ended[0].log <= flushed:
            self._position = self._ended.popleft().position
        moved = self._position != before
        self._unflushed_looks = self._unflushed_looks + 1 if self._ended and not moved else 0

    def rows(self, statement: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Ask over the tail's own connection; a broken one is closed, the next look opens another.

        Raises what `sql.CONNECTION_ERRORS` names.
        """
        if self._connection is None or self._connection.closed:
            self._connection = apart.connect(name=NAME, options=SESSION)
            # Who wrote is known by numbers that begin again with the server.
            self._marks.clear()
            self._ended.clear()
            self.taken = min(self.taken, self._position or -1)
        try:
            return self._connection.execute(statement, values, prepare=True).fetchall()
        except sql.CONNECTION_ERRORS:
            self._connection.close()
            raise

    def forget(self) -> None:
        """Begin anew: nothing is known of what is final."""
        self._marks.clear()
        self._ended.clear()
        self._position, self.taken = None, -1

    def close(self) -> None:
        """Close the connection; what is final stays so."""
        if self._connection is not None:
            self._connection.close()


class RewoundError(Exception):
    """Say that the history has become shorter: the database was restored or replaced."""
