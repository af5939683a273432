"""The frame every loop of the manager runs in: interval, lock, guard, heartbeat.

A loop finds bounded work and acts on each piece through the engine's doors. The frame sees to it
that one failing tick, a lost database or a lost broker ends nothing: the loop tries again.
"""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Any

import structlog
from django.db import connection

from orchestration.manager import outages

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

log = structlog.get_logger(__name__)

#: How often a standby tries to take a lock: the time a killed manager is missed, in seconds.
STANDBY_SECONDS = 0.5
#: Longest pause after errors, in seconds: a dependency that came back is used that soon.
MAX_BACKOFF_SECONDS = 1.0
#: An error that repeats is logged again after this many seconds.
REPEAT_LOG_SECONDS = 60.0
#: A loop silent for this long is called stuck, in seconds.
STUCK_SECONDS = 15.0
#: PostgreSQL ends the session of a loop that says nothing for this long, and with it its lock: the
#: loop's manager is stopped, or cut off in a way that no timeout of TCP notices. In seconds.
SILENT_SESSION_SECONDS = 15
#: A loop that holds its lock speaks at least this often, also while Redis keeps it waiting.
SPEAK_SECONDS = 3.0
#: Upper half of the advisory lock keys, so that they never meet another user's of the database.
LOCK_NAMESPACE = 0x41424531


class Loop:
    """One background loop. Subclasses say what a tick does; everything else is here.

    The thread's own database connection holds the lock: PostgreSQL frees it with the session, so
    that a standby takes over without anybody deciding that the other one is dead. A session that
    falls silent is ended: across a broken network the server would keep it for hours.
    """

    name = ""
    #: Seconds between ticks that found nothing more to do.
    interval = 1.0
    #: Whether only one manager at a time may run this loop.
    exclusive = True

    def __init__(self, *, stop: threading.Event) -> None:
        self._stop = stop
        self._held: Any = None
        self._spoke_at = 0.0
        #: The session that PostgreSQL was told to end when it falls silent.
        self._bounded: Any = None
        self._failures = 0
        self._away: set[str] = set()
        self._logged: tuple[str, float] = ("", 0.0)
        self.beat_at = time.monotonic()
        self.state = "starting"
        self.error = ""
        #: Set when the database was lost; who cares about that clears it.
        self.reconnected = False

    def tick(self) -> bool:
        """Do a bounded piece of work; return whether there is more to do at once."""
        raise NotImplementedError

    def gained(self) -> None:
        """Prepare for work: this loop has just become the one that does it."""

    def run(self) -> None:
        """Turn until told to stop."""
        pause = 0.0
        while not self.rest(pause):
            pause = self.turn()
        self.state = "stopped"
        connection.close()  # with it goes the lock: a standby need not wait

    def rest(self, seconds: float) -> bool:
        """Pause between two turns; return whether this loop has been told to stop."""
        return self._stop.wait(seconds)

    def turn(self) -> float:
        """Try one tick; return how many seconds to pause before the next."""
        try:
            working = not self.exclusive or self._hold()
            more = self.tick() if working else False
        except outages.AWAY as exc:
            return self._waiting(exc)
        except Exception as exc:  # noqa: BLE001 - the guard of the whole loop
            return self._failed(exc)
        for dependency in self._away:
            outages.end(dependency)
        self._away.clear()
        self._failures = 0
        self.error = ""
        self.state = "working" if working else "standby"
        self.beat_at = time.monotonic()
        if more:
            return 0.0
        return self.interval if working else min(self.interval, STANDBY_SECONDS)

    def guarded(self, action: Callable[[], int]) -> int:
        """Run one of several independent actions: its own bug must not stop the others."""
        try:
            return action()
        except outages.AWAY:
            raise
        except Exception as exc:  # noqa: BLE001 - a guard takes everything
            self._log(exc)
            return 0

    @property
    def heartbeat_age(self) -> float:
        """Return the seconds since the last turn that worked."""
        return time.monotonic() - self.beat_at

    def status(self) -> dict[str, Any]:
        """Return what /health shows of this loop."""
        stuck = self.heartbeat_age > STUCK_SECONDS
        found = {
            "state": "stuck" if stuck and self.state != "waiting" else self.state,
            "exclusive": self.exclusive,
            "heartbeat_age_seconds": round(self.heartbeat_age, 3),
        }
        return found | ({"error": self.error} if self.error else {})

    def _hold(self) -> bool:
        """Return whether this loop's session holds its lock, taking it when it is free."""
        raw = connection.connection
        if raw is not None and raw.closed:
            connection.close()
            self.reconnected = True
            raw = None
        if raw is None:
            connection.ensure_connection()
            raw = connection.connection
        if self._held is raw:
            self._speak()
            return True
        if self._bounded is not raw:
            # Asked here, not where it is opened: after a lost COMMIT Django opens one by itself.
            self.reconnected = self.reconnected or self._bounded is not None
            with connection.cursor() as cursor:
                cursor.execute(f"SET idle_session_timeout = '{SILENT_SESSION_SECONDS}s'")
            self._bounded = raw
        self._spoke_at = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [lock_key(self.name)])
            (gained,) = cursor.fetchone()
        self._held = raw if gained else None
        if gained:
            log.info("loop_active", loop=self.name)
            self.gained()
        return bool(gained)

    def _speak(self) -> None:
        """Keep the session that holds the lock, and learn early that it is gone."""
        if time.monotonic() - self._spoke_at > SPEAK_SECONDS:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            self._spoke_at = time.monotonic()

    def _waiting(self, error: Exception) -> float:
        """Note that a dependency is away."""
        name = outages.dependency(error)
        outages.begin(name, error)
        self._away.add(name)
        self.state = "waiting"
        self.error = f"{name} is away"
        if name == outages.DATABASE:
            self._check_connection()
        return self._backoff()

    def _failed(self, error: Exception) -> float:
        """Note an error nobody foresaw; the next tick tries again."""
        self._log(error)
        self.state = "failing"
        self.error = type(error).__name__
        self._check_connection()
        return self._backoff()

    def _log(self, error: Exception) -> None:
        text, at = self._logged
        now = time.monotonic()
        if str(error) != text or now - at > REPEAT_LOG_SECONDS:
            self._logged = (str(error), now)
            log.error("loop_failed", loop=self.name, exc_info=error)

    def _check_connection(self) -> None:
        """Close the connection unless it still works: a lost deadlock is not a lost server."""
        raw = connection.connection
        if raw is None or raw.closed or not connection.is_usable():
            connection.close()
            self._held = None
            self.reconnected = True

    def _backoff(self) -> float:
        self._failures = min(self._failures + 1, 10)
        return min(0.05 * 2.0**self._failures, MAX_BACKOFF_SECONDS)


def lock_key(name: str) -> int:
    """Return the advisory lock's number for a loop."""
    return (LOCK_NAMESPACE << 32) | zlib.crc32(name.encode())
