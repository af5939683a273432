"""Note when a machine's token was last used: to the minute, beside the requests."""

from __future__ import annotations

import contextlib
import queue
import threading
import time

import structlog
from django.db import connection

from engine import sql

log = structlog.get_logger(__name__)

#: A token's use is written at most this often, in seconds, whatever processes see it.
INTERVAL_SECONDS = 60
#: Tokens a process remembers to have written; above, it forgets all and writes a little more.
REMEMBERED = 10_000

WRITE = """
UPDATE engine_machinetoken SET last_used_at = clock_timestamp()
WHERE jti = ANY(%(ids)s::text[])
  AND (last_used_at IS NULL
    OR last_used_at <= clock_timestamp() - make_interval(secs => %(interval)s))"""


class _Process:
    """What this process has noted, and the thread that writes it down."""

    lock = threading.Lock()
    #: jti → when it was handed over, on the monotonic clock.
    noted: dict[str, float] = {}
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    writer: threading.Thread | None = None


def note(jti: str) -> None:
    """Note that the token is used now; returns at once."""
    now = time.monotonic()
    if now - _Process.noted.get(jti, float("-inf")) < INTERVAL_SECONDS:
        return
    with _Process.lock:
        if len(_Process.noted) >= REMEMBERED:
            _Process.noted.clear()
        _Process.noted[jti] = now
        if _Process.writer is None or not _Process.writer.is_alive():
            _Process.writer = threading.Thread(target=_write_on, name="token-usage", daemon=True)
            _Process.writer.start()
    _Process.waiting.put(jti)


def write(ids: list[str]) -> int:
    """Write that these tokens were used now; return how many had not been for a minute."""
    return sql.count(WRITE, {"ids": sql.array(ids), "interval": INTERVAL_SECONDS})


def _write_on() -> None:
    """Write what comes in, several at once when several wait."""
    while True:
        ids = [_Process.waiting.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                ids.append(_Process.waiting.get_nowait())
        try:
            write(ids)
        except Exception as exc:  # noqa: BLE001 - the guard of the thread; nothing depends on it
            log.warning("token_usage_not_written", tokens=len(ids), error=type(exc).__name__)
            for jti in ids:
                _Process.noted.pop(jti, None)  # its next use is tried again
        finally:
            # Nothing is kept for a write a minute.
            connection.close()
