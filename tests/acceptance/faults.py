"""What can go wrong with an installation, done to a running one and taken back.

Each is a context: there from its beginning on, and gone at its end whatever was done. It gives a
callable: what somebody does who ends it by means that a shell of this installation has not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import psycopg

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.stack import Stack

#: How long a fault may take to be there, in seconds.
THERE_SECONDS = 30
#: Longer than the API's limit, in seconds.
SLOW_SECONDS = 1.2
BLOCKED = (
    "SELECT 1 FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
    " AND query LIKE %s AND clock_timestamp() - query_start > make_interval(secs => %s)"
)


def nothing() -> None:
    """End nothing: the commands of the section have done it."""


@contextmanager
def gone(stack: Stack, number: signal.Signals, *names: str) -> Iterator[Callable[[], None]]:
    """Processes of `up` have ended, and nobody starts them again: what ends that is typed."""
    up, processes = stack.find("up"), [stack.find(name) for name in names]
    up.suspend()
    try:
        for process in processes:
            os.killpg(process.pid, number)
        for process in processes:
            eventually(lambda: _ended(process), within=THERE_SECONDS, what=f"{process} ends")  # noqa: B023
        yield nothing
    finally:
        up.resume()


@contextmanager
def server_stopped(stack: Stack, name: str) -> Iterator[Callable[[], None]]:
    """PostgreSQL or Redis has been shut down, and nobody starts it again."""
    record = json.loads((stack.var / "run" / f"{name}.json").read_text())
    keeper, server = (psutil.Process(record[role]["pid"]) for role in ("keeper", "server"))
    keeper.suspend()
    try:
        server.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        eventually(lambda: _ended(server), within=THERE_SECONDS, what=f"{name} ends")
        yield keeper.resume
    finally:
        keeper.resume()


@contextmanager
def table_locked(stack: Stack, table: str, *, asked: bool) -> Iterator[Callable[[], None]]:
    """Somebody has locked a table in psql and gone to lunch; `asked`: callers notice."""
    callers = [threading.Thread(target=_ask, args=(stack,)) for _ in range(2 if asked else 0)]
    with contextlib.ExitStack() as cleanup:
        session = psycopg.connect(
            stack.database_url,
            application_name="psql",
            # The embedded server would end it within the time in which it is to be found.
            options="-c idle_in_transaction_session_timeout=0",
        )
        # By then it has been ended by the commands; otherwise now.
        cleanup.callback(session.close)
        for before, caller in zip((None, *callers), callers, strict=False):
            session.rollback()
            if before is not None:
                # Counted when it has been answered: not before the last of its queries.
                before.join()
            session.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            caller.start()
            cleanup.callback(caller.join)
            eventually(
                lambda: stack.rows(BLOCKED, f"%{table}%", SLOW_SECONDS), within=THERE_SECONDS
            )
        if not callers:
            session.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            eventually(lambda: stack.rows(BLOCKED, f"%{table}%", 0), within=THERE_SECONDS)
        # Callers are let go before they are waited for.
        cleanup.callback(session.close)
        yield nothing


@contextmanager
def table_renamed(stack: Stack) -> Iterator[Callable[[], None]]:
    """Somebody has changed a table by hand, and calls that need it fail."""
    stack.execute("ALTER TABLE engine_artifact RENAME TO engine_artifact_old")

    def mend() -> None:
        stack.execute("ALTER TABLE IF EXISTS engine_artifact_old RENAME TO engine_artifact")

    try:
        run = stack.submit("lab.squares", count=1)
        assert stack.call("GET", f"/runs/{run}/artifacts").status_code == 500
        yield mend
    finally:
        mend()


@contextmanager
def redis_set(stack: Stack, name: str, value: str) -> Iterator[Callable[[], None]]:
    """Somebody has configured Redis as it must not be."""
    with contextlib.closing(stack.redis()) as client:
        before = client.config_get(name)[name]
        client.config_set(name, value)
        try:
            yield nothing
        finally:
            client.config_set(name, before)


def redis_nearly_full(stack: Stack) -> contextlib.AbstractContextManager[Callable[[], None]]:
    """Redis has hardly more memory than it uses."""
    with contextlib.closing(stack.redis()) as client:
        used = int(client.info("memory")["used_memory"])
    return redis_set(stack, "maxmemory", str(int(used * 1.3)))


@contextmanager
def entries_taken(stack: Stack) -> Iterator[Callable[[], None]]:
    """Somebody has tried the group's reading command and taken what was meant for the manager."""
    with contextlib.closing(stack.redis()) as client, client.pipeline(transaction=True) as pipe:
        fields = {
            "event_type": "automation.run.requested",
            "automation": "lab.squares",
            "data": '{"count": 1}',
        }
        for _ in range(20):
            pipe.xadd("automation.events", fields)
        pipe.xreadgroup("manager", "somebody", {"automation.events": ">"}, count=20)
        assert len(pipe.execute()[-1][0][1]) == 20
    yield nothing


@contextmanager
def flooded(stack: Stack) -> Iterator[Callable[[], None]]:
    """A run has more steps than the workers can do."""
    run = stack.submit("lab.squares", count=250, seconds=3)
    eventually(lambda: stack.count(run, "running", "square"), within=THERE_SECONDS)
    try:
        yield nothing
    finally:
        if stack.state(run) == "running":
            stack.manage("runs", "cancel", run)


@contextmanager
def dead_letters(stack: Stack) -> Iterator[Callable[[], None]]:
    """A step fails for good, run after run."""
    runs = [stack.submit("lab.fragile", folder=str(stack.folder)) for _ in range(3)]
    for run in runs:
        stack.reaches(run, "blocked")
    yield (stack.folder / "mended").touch


@contextmanager
def run_stuck(stack: Stack) -> Iterator[Callable[[], None]]:
    """Somebody has changed rows by hand: a run goes on, and nothing of it is under way."""
    assert stack.call("POST", "/departments/lab/pause").status_code == 200
    run = stack.submit("lab.squares", count=1)
    waiting = "UPDATE engine_steprun SET state = 'waiting' WHERE run_id = %s AND state = 'ready'"
    stack.execute(waiting, run)
    old = "UPDATE engine_run SET created_at = created_at - interval '5 min' WHERE id = %s"
    stack.execute(old, run)
    assert stack.call("POST", "/departments/lab/resume").status_code == 200
    yield nothing


def _ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _ask(stack: Stack) -> None:
    stack.call("GET", "/runs?limit=5")
