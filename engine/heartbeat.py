"""The thread beside a running step: renews its lease, sees a cancel, ends what will not end itself.

One thread and one database connection a process, begun with the first step (after the fork). A step
stuck in C code that never lets go of the interpreter starves this thread too: its lease runs out.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import connection

from engine import leases, sql
from engine.batches import SHOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.policies import Limits
    from engine.transitions.claims import Claimed

#: How often the thread looks at the clock while a step runs, in seconds.
TICK_SECONDS = 0.25
#: Shortest pause between two looks, in seconds.
LEAST_SECONDS = 0.02
#: Leases are renewed this many times in their life.
BEATS_PER_LEASE = 3

log = structlog.get_logger(__name__)


class Watch:
    """One running step as the heartbeat sees it. Moments are of the monotonic clock."""

    def __init__(
        self,
        *,
        step: Claimed,
        limits: Limits,
        on_outlast: Callable[[], bool],
        on_timeout: Callable[[], object],
        on_standstill: Callable[[], object],
        on_hard_cancel: Callable[[], object],
    ) -> None:
        now = time.monotonic()
        self.step = step
        self.limits = limits
        self.began = now
        #: When the step is to be shown as running; None once it is.
        self.show_at: float | None = now + SHOW_SECONDS
        self.deadline = now + limits.timeout
        #: When the step last gave a sign of progress, and what it said: (done, total).
        self.progress_at = now
        self.progress: tuple[int, int | None] | None = None
        self.next_beat = now + settings.LEASE_SECONDS / BEATS_PER_LEASE
        self.cancel_since: float | None = None
        self.lost = False
        #: When a process whose step lost its claim is ended, should the step not have stopped.
        self.ends_at = self.deadline
        self.on_outlast = on_outlast
        self.on_timeout = on_timeout
        self.on_standstill = on_standstill
        self.on_hard_cancel = on_hard_cancel

    @property
    def ran_seconds(self) -> float:
        """Return for how long the step has been running."""
        return time.monotonic() - self.began

    @property
    def patience(self) -> float | None:
        """Return for how many seconds more the step may be still; None when it may for ever."""
        within = self.limits.progress_within
        return None if within is None else self.progress_at + within - time.monotonic()

    def advance(self, progress: tuple[int, int | None] | None = None) -> None:
        """Note a sign of progress; costs nothing but memory."""
        self.progress_at = time.monotonic()
        if progress is not None:
            self.progress = progress


class Heartbeat:
    """Watch the step this process runs, one at a time."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._busy = threading.Event()
        self._lock = threading.Lock()
        self._pid: int | None = None
        #: Ends this process; set in worker children, None where a process must not end itself.
        self.end_process: Callable[[], None] | None = None

    def begin(self, watch: Watch) -> None:
        """Start to watch a step; the thread is begun with the first one of this process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._busy = threading.Event()
            self._lock = threading.Lock()
            threading.Thread(target=self._beat_forever, name="heartbeat", daemon=True).start()
        self._watch = watch
        self._busy.set()

    def finish(self) -> None:
        """Stop watching: from here on the step can be neither timed out nor ended from outside.

        Waits for a verdict that is being written just now, so that both sides do not write.
        """
        with self._lock:
            self._watch = None
        self._busy.clear()

    def _beat_forever(self) -> None:
        while True:
            self._busy.wait()
            wait = TICK_SECONDS
            with self._lock:
                watch = self._watch
                if watch is not None:
                    try:
                        self._beat(watch)
                    except sql.CONNECTION_ERRORS:
                        # The database is away. The next beat tries again; the lease has patience.
                        with contextlib.suppress(Exception):
                            connection.close()
                    except Exception:
                        log.exception("heartbeat_failed", **watch.step.logged)
                    if watch.show_at is not None:
                        # A step that began since the last look is not shown later for it.
                        wait = min(max(watch.show_at - time.monotonic(), LEAST_SECONDS), wait)
            time.sleep(wait)

    def _beat(self, watch: Watch) -> None:
        now = time.monotonic()
        self._show(watch, now)
        if now >= watch.next_beat and not watch.lost:
            cancel = leases.renew(
                step=watch.step,
                attempt_seconds=watch.limits.timeout,
                patience_seconds=watch.patience,
            )
            watch.next_beat = now + settings.LEASE_SECONDS / BEATS_PER_LEASE
            if cancel is None:
                watch.lost = True
                watch.ends_at = min(watch.deadline, now + settings.CANCEL_GRACE_SECONDS)
                log.warning("claim_lost", **watch.step.logged)
            else:
                if cancel and watch.cancel_since is None:
                    watch.cancel_since = now
                if watch.progress is not None:
                    done, total = watch.progress
                    log.info("step_progress", done=done, total=total, **watch.step.logged)
                    watch.progress = None
        if watch.lost:
            # Somebody else has the step: there is no verdict to write, only a process to free.
            if now >= watch.ends_at:
                self._end(watch, reason="claim_lost")
            return
        patience = watch.patience
        if now >= watch.deadline:
            self._stop(watch, watch.on_timeout, reason="timeout")
        elif patience is not None and patience <= 0:
            self._stop(watch, watch.on_standstill, reason="no_progress")
        elif watch.cancel_since and now >= watch.cancel_since + settings.CANCEL_GRACE_SECONDS:
            self._stop(watch, watch.on_hard_cancel, reason="cancelled")

    @staticmethod
    def _show(watch: Watch, now: float) -> None:
        """Let a step that outlasts SHOW_SECONDS come forward; try again when it could not."""
        if watch.lost:
            watch.show_at = None
        elif watch.show_at is not None and now >= watch.show_at:
            watch.show_at = None if watch.on_outlast() else now + TICK_SECONDS

    def _stop(self, watch: Watch, verdict: Callable[[], object], *, reason: str) -> None:
        verdict()
        watch.lost = True
        self._end(watch, reason=reason)

    def _end(self, watch: Watch, *, reason: str) -> None:
        if self.end_process is not None:
            log.warning("process_ended", reason=reason, **watch.step.logged)
            self.end_process()


def kill_this_process() -> None:
    """End this process at once; its pool starts another. The step's end is recorded already."""
    os.kill(os.getpid(), signal.SIGKILL)


heart = Heartbeat()
