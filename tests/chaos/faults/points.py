"""The failpoints inside the platform's processes: named functions, wrapped from outside.

Importing this module, as every process does that has `tests.chaos.faults` among its catalog
packages, wraps them when FAILPOINTS names a folder. A point does nothing until a test puts a file
of its name there (`tests.chaos.failpoints`); the first process that then comes by in the wanted
role takes the file away, leaves a mark with its pid and the time, and dies, stops or raises.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection, transaction

FOLDER = os.environ.get("FAILPOINTS", "")
#: The process that imported this; a forked child of a worker has another one.
_PARENT = os.getpid()


def role() -> str:
    """Return what this process is: web, manager, orchestrator, worker, or `<worker>-parent`."""
    words = " ".join(sys.argv)
    if "uvicorn" in words:
        return "web"
    if "manager" in sys.argv:
        return "manager"
    if "worker" in sys.argv:
        name = "orchestrator" if "orchestrator@" in words else "worker"
        return f"{name}-parent" if os.getpid() == _PARENT else name
    return "other"


def fire(point: str, **facts: Any) -> None:
    """Do what the test armed this point with, if it did, for this role and these facts."""
    order = _armed(point, facts)
    if order is None:
        return
    armed = Path(FOLDER) / point
    try:
        armed.rename(armed.with_name(f"{point}.taken.{os.getpid()}"))
    except FileNotFoundError:
        return  # another process came first
    mark = armed.with_name(f"{point}.mark")
    partial = armed.with_name(f"{point}.mark.{os.getpid()}")
    partial.write_text(json.dumps({"pid": os.getpid(), "at": time.time(), "role": role()}))
    partial.rename(mark)
    _act(order["action"])


def _armed(point: str, facts: dict[str, Any]) -> dict[str, Any] | None:
    if not FOLDER:
        return None
    try:
        order: dict[str, Any] = json.loads((Path(FOLDER) / point).read_text())
    except (OSError, ValueError):
        return None
    if order["role"] != role():
        return None
    wanted = order["where"].items()
    return order if all(str(facts.get(name)) == str(value) for name, value in wanted) else None


def _act(action: str) -> None:
    word, _, value = action.partition(":")
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "kill-group":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    elif word == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif word == "freeze":
        os.kill(int(value), signal.SIGSTOP)
    elif word == "sleep":
        time.sleep(float(value))
    elif word == "lose-answer":
        # The connection breaks after the server has done what it was asked for.
        connection.connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly (failpoint)")
    else:
        raise ValueError(action)


def _before(module: Any, name: str, point: str, facts: Any = None) -> None:
    """Fire `point` each time `module.name` is about to be called."""
    original = getattr(module, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        fire(point, **(facts(*args, **kwargs) if facts else {}))
        return original(*args, **kwargs)

    setattr(module, name, wrapped)


def _after(module: Any, name: str, point: str, facts: Any = None) -> None:
    """Fire `point` each time `module.name` has returned something."""
    original = getattr(module, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if result:
            fire(point, **(facts(result) if facts else {}))
        return result

    setattr(module, name, wrapped)


def _around_commit(module: Any, name: str, *, before: str, after: str, facts: Any = None) -> None:
    """Fire `before` between the statement and its COMMIT, `after` when it has been committed."""
    original = getattr(module, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        found = facts(**kwargs) if facts else {}
        if _armed(before, found) is not None:
            with transaction.atomic():
                result = original(*args, **kwargs)
                fire(before, **found)
                return result
        result = original(*args, **kwargs)
        if not connection.in_atomic_block:
            fire(after, **found)
        return result

    setattr(module, name, wrapped)


def _of_step(*, step: Any, **_rest: Any) -> dict[str, Any]:
    return {"run_id": step.run_id, "key": step.key}


def _of_group(*, finished: Any, sticky: Any = None, **_rest: Any) -> dict[str, Any]:
    last = finished[-1].step
    several, goes_on = len(finished) > 1, bool(sticky)
    return {"run_id": last.run_id, "key": last.key, "several": several, "sticky": goes_on}


def _of_message(steps: Any, **_rest: Any) -> dict[str, Any]:
    return {"any": bool(steps), "several": len(steps) > 1}


def _of_claimed(found: Any) -> dict[str, Any]:
    return {"run_id": found[0].run_id, "key": found[0].key}


def _install() -> None:
    from engine import context, lanes, leases, publishing, runs  # noqa: PLC0415 - models are ready
    from engine.transitions import claims, completions, dispatch  # noqa: PLC0415 - same
    from engine.transitions import runs as run_moves  # noqa: PLC0415 - same
    from orchestration import streams  # noqa: PLC0415 - same

    _around_commit(run_moves, "submit", before="before_submit_commit", after="after_submit_commit")
    _before(publishing, "publish", "before_publish", _of_message)
    _before(lanes, "with_ready", "in_dispatcher")
    # The length of the queue is known, nothing has been sent.
    _before(lanes, "dispatch", "before_dispatch_send", lambda lane, **_rest: {"lane": lane})
    _before(leases, "reap", "in_reaper")
    _before(dispatch, "queue", "after_dispatch_send_before_commit")
    _after(claims, "claim", "after_claim", _of_claimed)
    _around_commit(
        completions,
        "complete",
        before="before_complete_commit",
        after="after_complete_commit",
        facts=_of_group,
    )
    # The statement has not been sent, and no transaction of a pure group is open.
    _before(completions, "complete", "before_complete", _of_group)
    _around_commit(completions, "expand", before="in_expand", after="after_expand", facts=_of_step)
    _after(streams, "read_new", "events_after_read")
    _before(streams, "acknowledge", "events_before_ack", lambda ids: {"any": bool(ids)})

    submit = runs.submit

    def submitted(**kwargs: Any) -> Any:
        result = submit(**kwargs)
        if kwargs.get("trigger") == "schedule":
            fire("schedule_after_submit_before_commit")
        return result

    runs.submit = submitted

    # The completion of a writing step is committed by its context.
    close = context.RunningContext.close
    complete = completions.complete
    goes_on = False

    def completed(**values: Any) -> Any:
        nonlocal goes_on
        result = complete(**values)
        goes_on = bool(result.held)
        return result

    def closed(self: Any, error: BaseException | None) -> None:
        writing = self.writing
        close(self, error)
        if writing and error is None:
            facts = {"run_id": self.run_id, "key": self.step, "sticky": goes_on}
            fire("after_complete_commit", **facts)

    completions.complete = completed
    context.RunningContext.close = closed  # type: ignore[method-assign]


def _hurry() -> None:
    """Shorten what the suite would otherwise wait for, as LEASE_SECONDS does for leases."""
    from config.stack import supervisor  # noqa: PLC0415 - only where it is used
    from orchestration.manager import events  # noqa: PLC0415 - same

    # `up` starts what died again after half a second, however often we kill it.
    supervisor.STABLE_SECONDS = 0.0
    idle = float(os.environ.get("FAILPOINTS_CLAIM_IDLE_SECONDS", events.CLAIM_IDLE_SECONDS))
    events.Events.__init__.__kwdefaults__.update(
        claim_idle_seconds=idle, claim_every_seconds=min(idle / 4, events.CLAIM_EVERY_SECONDS)
    )


if FOLDER:
    _install()
    _hurry()
