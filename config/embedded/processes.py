"""Recognise processes by pid and start time, and tie a child's life to its parent's."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

PR_SET_PDEATHSIG = 1
# /proc/<pid>/stat after the name in brackets: the 22nd field of all is the start time.
START_FIELD = 22 - 3
POLL_SECONDS = 0.02
#: How often, and how far apart in seconds, the kernel is told how a session shares the processor.
SHARE_TRIES, SHARE_SECONDS = 5, 0.11

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def identify(pid: int) -> dict[str, Any]:
    """Return what tells this process apart from a later one with the same pid."""
    return {"pid": pid, "started": started(pid)}


def started(pid: int) -> float:
    """Return when a process started, on a clock nobody can set; raise `psutil.NoSuchProcess`."""
    if _libc is None:
        return psutil.Process(pid).create_time()
    try:
        # In ticks since the boot: a time of day would move when the machine's clock is corrected.
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise psutil.NoSuchProcess(pid) from error
    return float(stat.rpartition(")")[2].split()[START_FIELD])


def find(identity: dict[str, Any] | None) -> psutil.Process | None:
    """Return the process of that identity while it lives."""
    if not identity:
        return None
    try:
        process = psutil.Process(int(identity["pid"]))
        same = started(process.pid) == float(identity["started"])
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, KeyError, TypeError, ValueError):
        return None


def end(process: psutil.Process, *, first: signal.Signals, grace_seconds: float) -> bool:
    """Ask a process to stop, insist after the grace; tell whether it is gone."""
    with contextlib.suppress(psutil.Error):
        process.send_signal(first)
        if _gone(process, seconds=grace_seconds):
            return True
        process.kill()
    return _gone(process, seconds=5)


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return what a child runs first so that the kernel signals it when its parent dies."""
    parent = os.getpid()

    def bind() -> None:
        if _libc is None:
            return
        _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before prctl: no signal will come any more
            os._exit(1)

    return bind


def step_back(pid: int, *, niceness: int) -> None:
    """Let other processes go first when processor time is scarce.

    Linux may share it by session first (sched_autogroup): there the number of the process alone
    would change nothing. What the system does not allow is left as it is.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    for _ in range(SHARE_TRIES):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness), encoding="ascii")
        except BlockingIOError:
            # Who is not root may say so ten times a second, the whole machine together.
            time.sleep(SHARE_SECONDS)
        except OSError:
            return
        else:
            return


def _gone(process: psutil.Process, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(POLL_SECONDS)
    return False
