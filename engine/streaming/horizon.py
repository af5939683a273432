"""How far the history is final, for one who asks once: a page of it, not a stream.

By the rule of `tail`, but over the request's own connection and without a memory: who has waited
for those who were writing knows of every id taken before that no lower one can appear any more.
"""

from __future__ import annotations

import threading
import time

from engine import sql
from engine.streaming.tail import FLUSH, TAKEN, WRITERS

#: How long a page waits for those who write: they mostly take some milliseconds.
PATIENCE_SECONDS = 0.25
LOOK_SECONDS = 0.005
#: Requests of a process that may wait at once: while somebody writes for long, the others are told
#: at once that it is not known how far the history is final, and the process goes on answering.
MOST_WAIT = 3

_waiting = threading.BoundedSemaphore(MOST_WAIT)

#: What this very transaction has written it sees; it need not wait for itself.
OTHERS = f"{WRITERS.rstrip()} AND pid <> pg_backend_pid()"
WRITTEN = "SELECT pg_current_wal_insert_lsn()::text AS written"
FLUSHED = "SELECT pg_current_wal_flush_lsn() >= %(written)s::pg_lsn AS flushed"


def settled(*, patience_seconds: float = PATIENCE_SECONDS) -> int | None:
    """Return an id: who reads from now on sees every event up to it that there will ever be.

    None when a transaction stays open for longer than that. Claims commit without waiting for the
    disk, and what a crash takes back may come again under the same id: here the disk is waited for.
    """
    if not _waiting.acquire(blocking=False):
        return _settled(0.0)
    try:
        return _settled(patience_seconds)
    finally:
        _waiting.release()


def _settled(patience_seconds: float) -> int | None:
    until = time.monotonic() + patience_seconds
    taken: int = sql.rows(TAKEN)[0][0]
    writers = _writers()
    while writers:
        if not _paused(until):
            return None
        writers &= _writers()
    written = sql.rows(WRITTEN)[0].written
    if not _is_flushed(written):
        sql.rows(FLUSH)
        while not _is_flushed(written):
            if not _paused(until):
                return None
    return taken


def _is_flushed(written: str) -> bool:
    return bool(sql.rows(FLUSHED, {"written": written})[0].flushed)


def _writers() -> set[str]:
    return {row.virtualtransaction for row in sql.rows(OTHERS)}


def _paused(until: float) -> bool:
    """Wait until the next look; False when there is no time for another."""
    if time.monotonic() >= until:
        return False
    time.sleep(LOOK_SECONDS)
    return True
