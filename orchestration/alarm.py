"""The one clock of a worker's parent that needs no event loop: SIGALRM.

It ends the process hard when the loop has stood still for a minute, and when the grace after a
SIGTERM is over. Steps that ran recover by the hint left here, or by their lease.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import redis
import structlog
from celery.worker import state

from orchestration.task_base import lost_worker_hint, recycled_worker_hint

if TYPE_CHECKING:
    from types import FrameType

log = structlog.get_logger(__name__)

#: The loop is looked at so often; it has stood still when this many looks found no sign of it.
#: Several, because a process that was stopped and continued finds one late signal.
LOOK_SECONDS, LOOKS = 20.0, 3
#: How long the last words may take before the kernel ends the process, in seconds.
LAST_WORDS_SECONDS = 0.8
#: What a supervisor sees: worth starting again.
EXIT_HUNG = os.EX_SOFTWARE
EXIT_GRACE_OVER = os.EX_TEMPFAIL


class Alarm:
    """Watch the loop while it is told to, and bound the end of the process once that has begun."""

    def __init__(self) -> None:
        self._pid = 0
        self._worker: Any = None
        self._silent_looks = 0
        self._ends_at = 0.0
        self._grace_seconds = 0.0
        self._steps_in_loop = False

    def install(self, *, worker: Any, grace_seconds: float) -> None:
        """Take over SIGALRM in the parent; `worker` is Celery's WorkController."""
        self._pid = os.getpid()
        self._worker = worker
        self._grace_seconds = grace_seconds
        signal.signal(signal.SIGALRM, self._ring)
        atexit.register(self._leave)

    def forget(self) -> None:
        """Give SIGALRM back in a forked child; its timer did not come along.

        A pool without children (`--pool solo`) is begun in this very process, and its steps stop
        the loop for as long as they run: the grace stays, and a long step is no hang.
        """
        if os.getpid() == self._pid:
            self._steps_in_loop = True
            return
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def tick(self) -> None:
        """Note that the loop turns, and go on watching it."""
        if self._ends_at or not self._pid or self._steps_in_loop:
            return
        self._silent_looks = 0
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)

    def rest(self) -> None:
        """Stop watching: the loop waits for Redis, which may take hours."""
        if not self._ends_at:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def end_within_grace(self) -> None:
        """Let the process have its grace and not more; asking again changes nothing."""
        if self._ends_at or not self._pid:
            return
        self._ends_at = time.monotonic() + self._grace_seconds
        signal.setitimer(signal.ITIMER_REAL, self._grace_seconds)

    def _leave(self) -> None:
        """End here, when Celery is done, and spare Python the taking apart of itself.

        Python's handlers of signals are gone by then: a grace that ended in it was seen to make a
        good end look like a death by SIGALRM, in 15 of 35 shutdowns on a busy machine.
        """
        if os.getpid() == self._pid and self._worker.exitcode is not None:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(self._worker.exitcode)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a child between its fork and `forget`
            return
        if self._ends_at:
            self._end(EXIT_GRACE_OVER, "worker_grace_over", seconds=self._grace_seconds)
        self._silent_looks += 1
        if self._silent_looks >= LOOKS:
            self._end(EXIT_HUNG, "worker_hung", seconds=LOOK_SECONDS * LOOKS)

    def _end(self, code: int, event: str, **facts: Any) -> None:
        """End the children and this process, whatever state everything is in."""
        # Should anything below block, the kernel ends it: the default of SIGALRM is to die.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, LAST_WORDS_SECONDS)
        try:
            ended = self._kill_children()
            faulthandler.dump_traceback(file=sys.__stderr__ or 2)
            self._leave_hints(hung=code != EXIT_GRACE_OVER)
            log.critical(event, children_ended=ended, **facts)
        finally:
            os._exit(code)

    def _kill_children(self) -> int:
        pool = getattr(getattr(self._worker, "pool", None), "_pool", None)
        children = [child.pid for child in getattr(pool, "_pool", ()) if child.pid]
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(children)

    def _leave_hints(self, *, hung: bool) -> None:
        """Tell the reaper which claims ended with the children, on a connection of its own.

        The pool of connections may be locked by what this signal has interrupted. hung: that is
        why it ends, and its steps may be to blame; else its grace is over.
        """
        from orchestration import presence, streams  # noqa: PLC0415 - settings must be ready first

        lost = [request for request in list(state.active_requests) if request.worker_pid]
        if lost or hung:
            with (
                contextlib.suppress(*streams.AWAY, redis.RedisError),
                streams.lone_client() as client,
            ):
                at = presence.clock(client)
                hints = [lost_worker_hint(request, blame=hung, at=at) for request in lost]
                if hung:
                    hints.append(recycled_worker_hint(self._worker.hostname, reason="hung"))
                client.rpush(streams.WORKERS_LOST, *(json.dumps(hint) for hint in hints))


alarm = Alarm()
