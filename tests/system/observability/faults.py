"""Ways to hurt a running stack that last: who restarts what has died stands still meanwhile."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import psutil
import psycopg

from tests.acceptance.stack import TLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.stack import Stack

#: How long each of the slow answers waits, in seconds, beyond the limit of the alert.
HELD_SECONDS = 1.6


@contextmanager
def gone(stack: Stack, name: str) -> Iterator[None]:
    """End a process and all of its children for good, as a machine that is lost would."""
    victim = stack.find(name)
    # `up`, or the keeper of an embedded server.
    guardian = victim.parent()
    assert guardian is not None
    family = [victim, *victim.children(recursive=True)]
    guardian.suspend()
    try:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        yield
    finally:
        # It buries the dead and starts them again.
        guardian.send_signal(signal.SIGCONT)


@contextmanager
def requests(stack: Stack, path: str, *, threads: int = 2) -> Iterator[None]:
    """Ask for a path over and over, as a front end does, whatever the answers are."""
    over = threading.Event()
    headers = {"Authorization": f"Bearer {stack.token}"}

    def ask() -> None:
        with httpx.Client(base_url=stack.url, headers=headers, timeout=30, verify=TLS) as client:
            while not over.wait(0.1):
                try:
                    client.get(path)
                except httpx.HTTPError:
                    continue

    callers = [threading.Thread(target=ask, daemon=True) for _ in range(threads)]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        over.set()
        for caller in callers:
            caller.join(timeout=40)


@contextmanager
def slow_departments(stack: Stack) -> Iterator[None]:
    """Hold the table that `GET /departments` reads, again and again, so that each answer waits."""
    over = threading.Event()

    def hold() -> None:
        with psycopg.connect(stack.database_url) as connection:
            while not over.is_set():
                connection.execute("LOCK TABLE departments_department IN ACCESS EXCLUSIVE MODE")
                over.wait(HELD_SECONDS)
                connection.rollback()
                over.wait(0.05)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    try:
        yield
    finally:
        over.set()
        holder.join(timeout=10)
