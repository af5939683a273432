"""Connections that neither end can keep waiting: bound PostgreSQL's answers, and its patience.

A firewall or proxy that forgets a connection leaves both ends believing in it. Where something in
between goes on acknowledging, the kernel's timeouts never fire: a worker, its heartbeat, a loop of
the manager would wait for ever, and the server would keep their locks for as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from psycopg.abc import PQGen, Query

T = TypeVar("T")

#: How long a statement may take that only asks whether a connection still works, seconds.
PING_SECONDS = 3.0
#: How long the server keeps a transaction whose client says nothing, in seconds: its locks would
#: stop those who go on with the work. No transaction of ours waits longer for anything outside.
SILENT_TRANSACTION_SECONDS = 10
#: The server gives up a statement so much earlier than its client does: what nobody waits for any
#: more must not go on, and a connection whose statement was only slow stays usable. In seconds.
SERVER_LEAD_SECONDS = 1.0
#: How often psycopg looks up from its waiting, in seconds (its own default).
WAKE_SECONDS = 0.1


class _Process:
    """What holds for every connection of this process, and of those it forks."""

    answer_seconds: float | None = None


def bound_answers(seconds: float) -> None:
    """Let no answer of the database take longer in this process.

    For processes that live long. A command may take its time: a migration, a check of everything.
    """
    _Process.answer_seconds = seconds


class Connection(psycopg.Connection[Any]):
    """A connection that is closed, and says so, when an answer takes too long.

    The error is an OperationalError, as if the server had closed the connection: what was asked
    for may have happened or not.
    """

    #: The bound of this connection; None means that of the process, if it has one.
    answer_seconds: float | None = None

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect; in a bounded process tell the server how long to wait for us.

        Not behind PgBouncer (`prepare_threshold=None`), which refuses `options`.
        """
        if _Process.answer_seconds is not None and kwargs.get("prepare_threshold") is not None:
            given = kwargs.get("options") or ""
            kwargs["options"] = f"{_server_options(_Process.answer_seconds)} {given}".strip()
        return super().connect(conninfo, **kwargs)

    def wait(
        self, gen: PQGen[T], interval: float = WAKE_SECONDS, timeout: float | None = None
    ) -> T:
        """Drive one exchange with the server to its end, or raise when that takes too long."""
        if timeout is not None:  # the caller has a bound of its own, and does not give up for it
            return super().wait(gen, interval, timeout)
        seconds = self.answer_seconds or _Process.answer_seconds
        try:
            return super().wait(gen, interval, seconds)
        except psycopg.OperationalError as exc:
            if seconds is None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            # The answer is still due. Should it come, it must not be taken for the next one's.
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the database gave no answer within {seconds:g} s: connection closed"
            ) from exc

    def execute(self, query: Query, *args: Any, **kwargs: Any) -> psycopg.Cursor[Any]:
        """Execute on a new cursor; the empty statement is the pool's way to ask for life."""
        return self.ping() if query == "" else super().execute(query, *args, **kwargs)

    def ping(self) -> psycopg.Cursor[Any]:
        """Raise OperationalError, within seconds, unless the server answers."""
        before = self.answer_seconds
        self.answer_seconds = PING_SECONDS
        try:
            return super().execute("SELECT 1")
        finally:
            self.answer_seconds = before


def _server_options(answer_seconds: float) -> str:
    patience = {
        "statement_timeout": int(max(answer_seconds - SERVER_LEAD_SECONDS, 1.0) * 1000),
        "idle_in_transaction_session_timeout": SILENT_TRANSACTION_SECONDS * 1000,
        # The prepared statements are all lookups: to plan them anew for each value costs as much as
        # they do, and on large tables `auto` would go on doing it (engine/README.md, "Decisions").
        "plan_cache_mode": "force_generic_plan",
        # Made while a table was small, a plan would read all of it, and go on doing so while it
        # grows; so would the checks of foreign keys.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        # A client whose machine is gone: the server's default is two hours. No effect on a socket.
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
    }
    return " ".join(f"-c {name}={value}" for name, value in patience.items())
