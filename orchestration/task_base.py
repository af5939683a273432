"""The base of every task: log context, sound database connections, and a voice for dead workers."""

from __future__ import annotations

import itertools
import json
import os
import time
from typing import Any

import structlog
from billiard.exceptions import WorkerLostError
from celery import Task
from celery.utils.log import get_logger
from celery.worker.request import Request

from orchestration import connections, presence, streams

log = get_logger(__name__)

#: A connection unused for longer than this is asked before it is trusted, in seconds.
IDLE_CHECK_SECONDS = 10.0
#: Hints kept when nobody reads them.
MAX_HINTS = 10_000


class EngineRequest(Request):
    """The parent's view of a message: says at once when the child that had it is gone."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The order of arrival; Celery's own sets have none.
        self.number = next(EngineRequest._numbers)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """Push a hint for the reaper when the child died; the lease would take 30 s to tell."""
        # Asked before the call below, which may turn an exit into a WorkerLostError.
        error = exc_info.exception
        error = getattr(error, "exc", error)
        if isinstance(error, (WorkerLostError, SystemExit)) and self.worker_pid:
            self._tell_reaper()
        return super().on_failure(exc_info, *args, **kwargs)

    def _tell_reaper(self) -> None:
        try:
            # This is the event loop of the parent: half a second, then the lease has to do.
            client = streams.client(reply_seconds=streams.QUICK_SECONDS)
            hint = lost_worker_hint(self, blame=True, at=presence.clock(client))
            with client.pipeline(transaction=False) as pipe:
                pipe.rpush(streams.WORKERS_LOST, json.dumps(hint))
                pipe.ltrim(streams.WORKERS_LOST, -MAX_HINTS, -1)
                pipe.execute()
        except Exception:  # noqa: BLE001 - a hint must never disturb the worker
            log.warning("could not report the loss of worker process %s", self.worker_pid)


class EngineTask(Task):  # type: ignore[type-arg] # generic in its stubs only
    """Run with a log context and with database connections that work."""

    Request = EngineRequest  # type: ignore[assignment] # a class will do, as in Celery's docs
    _last_run = 0.0

    @property
    def worker(self) -> str:
        """Return the name under which this process claims: hostname/pid."""
        return worker_name(self.request.hostname or "unknown", os.getpid())

    def before_start(self, task_id: str, _args: Any, _kwargs: Any) -> None:
        """Bind the log context and drop database connections that are broken."""
        structlog.contextvars.bind_contextvars(task_id=task_id)
        connections.mend(idle=time.monotonic() - EngineTask._last_run > IDLE_CHECK_SECONDS)

    def after_return(self, *_args: Any) -> None:
        """Forget the log context, whatever happened."""
        EngineTask._last_run = time.monotonic()
        structlog.contextvars.clear_contextvars()


def worker_name(hostname: str, pid: int) -> str:
    """Return how a worker process is called in claims and in hints alike."""
    return f"{hostname}/{pid}"


def recycled_worker_hint(hostname: str, *, reason: str) -> dict[str, str]:
    """Return what the reaper reads about a worker that ends itself to be started again."""
    return {"worker": hostname, "recycled": reason}


def lost_worker_hint(request: Request, *, blame: bool, at: float) -> dict[str, Any]:
    """Return what the reaper reads about a child that is gone since `at` (the clock of Redis).

    blame: whether the step it ran may have been the cause.
    """
    return {
        "worker": worker_name(request.hostname, int(request.worker_pid or 0)),
        "step_run_ids": request.kwargs.get("step_run_ids", []),
        "blame": blame,
        "at": at,
    }
