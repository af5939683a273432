"""Find and end what an `up` that was killed has left running.

The kernel sends the children of a killed `up` a SIGTERM, so they are normally draining already.
Each is known by pid and start time: a number alone may belong to a stranger by now.
"""

from __future__ import annotations

import contextlib
import json
import os
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
    """Return what lives of the processes on record and of those they started."""
    try:
        known = json.loads(record.read_text())
        leaders = [int(known_one["pid"]) for known_one in known if not _recycled(known_one)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [member for member in psutil.process_iter() if _session(member) in leaders]


def end(record: Path, *, grace_seconds: float) -> list[str]:
    """End what is left over, gently first; return the names of what had to be ended."""
    left = left_over(record)
    names = [f"{process.pid}" for process in left]
    for process in left:
        # Leaders take their own children along; those without a leader are asked themselves.
        if process.pid == _session(process) or not psutil.pid_exists(_session(process)):
            with contextlib.suppress(psutil.Error):
                process.terminate()
    deadline = time.monotonic() + grace_seconds
    while (left := left_over(record)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    while left_over(record):
        time.sleep(POLL_SECONDS)
    record.unlink(missing_ok=True)
    return names


def _recycled(identity: dict[str, Any]) -> bool:
    """Tell whether the pid belongs to somebody else now.

    Never while the session it led has members: the kernel does not give such a pid out again.
    """
    try:
        return processes.started(int(identity["pid"])) != float(identity["started"])
    except psutil.Error:
        return False


def _session(process: psutil.Process) -> int:
    """Return the pid that leads the session of a live process; 0 for one that has ended."""
    try:
        return 0 if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (OSError, psutil.Error):
        return 0
