"""Find and end what an `up` that was killed has left running.

The kernel sends the children of a killed `up` a SIGTERM, so they are normally draining already.
Each is known by pid and start time: a number alone may belong to a stranger by now.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil

from config.embedded import layout, processes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

POLL_SECONDS = 0.05


def note(record: Path, identities: Sequence[dict[str, Any]]) -> None:
    """Write down which processes run, for an `up` that may have to clear up after us."""
    layout.write_private(record, json.dumps(list(identities)))


def left_over(record: Path) -> list[psutil.Process]:
    """Return the processes on record that live, and all those they started that still do."""
    try:
        known = json.loads(record.read_text())
    except (OSError, ValueError):
        return []
    found: list[psutil.Process] = []
    for identity in known if isinstance(known, list) else []:
        leader = processes.find(identity)
        if leader is not None:
            found.append(leader)
        elif isinstance(identity, dict) and not psutil.pid_exists(int(identity.get("pid", 0))):
            # A pid is not given out again while the session it led has members.
            found += _session(int(identity.get("pid", 0)))
    return found


def end(record: Path, *, grace_seconds: float) -> list[str]:
    """End what is left over, gently first; return the names of what had to be ended."""
    left = left_over(record)
    names = [f"{process.name()} ({process.pid})" for process in left if process.is_running()]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + grace_seconds
    while (left := left_over(record)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for process in left:
        with contextlib.suppress(OSError):
            os.killpg(os.getpgid(process.pid), signal.SIGKILL)
    while left_over(record):
        time.sleep(POLL_SECONDS)
    record.unlink(missing_ok=True)
    return names


def _session(leader_pid: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if leader_pid > 0 and os.getsid(process.pid) == leader_pid:
                members.append(process)
    return members
