"""What is done to PostgreSQL and Redis."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, ClassVar

import psycopg
import redis

from tests.chaos.soak.faults import Fault, gone, send, soon

if TYPE_CHECKING:
    from random import Random

    import psutil

EPOCH = "automation:epoch"
CANARY = "soak:canary"
FILLER = "soak:filler"
FILLER_BYTES = 64 * 1024


class PostgresRestarted(Fault):
    """Immediate shutdown (SIGQUIT): no checkpoint, crash recovery at the next start."""

    number: ClassVar[signal.Signals] = signal.SIGQUIT
    _old: psutil.Process | None = None

    def choose(self, _dice: Random) -> str:
        return "postgres"

    def strike(self) -> bool:
        self._old = self.platform.process("postgres")
        return self._old is not None and send(self._old, self.number) and gone(self._old)

    def is_over(self) -> bool:
        new = self.platform.process("postgres")
        return new is not None and new != self._old and self.platform.database_answers()


class PostgresKilled(PostgresRestarted):
    """kill -9 of the postmaster; its backends notice by themselves."""

    number = signal.SIGKILL


class SessionsTerminated(Fault):
    """Every session of the database ends, in the middle of whatever it does."""

    def choose(self, _dice: Random) -> str:
        return "postgres"

    def strike(self) -> bool:
        try:
            with self.platform.database() as connection:
                found = connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                ).fetchall()
        except psycopg.Error:
            return False
        return any(ended for (ended,) in found)

    def is_over(self) -> bool:
        try:
            with self.platform.database() as connection:
                found = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name <> 'soak'"
                    " AND backend_type = 'client backend'"
                ).fetchone()
        except psycopg.Error:
            return False
        return bool(found and found[0])


class RedisKilled(Fault):
    """kill -9; the append-only file brings back all but the last second."""

    _old: psutil.Process | None = None

    def choose(self, _dice: Random) -> str:
        return "redis"

    def strike(self) -> bool:
        self._old = self.platform.process("redis")
        return self._old is not None and send(self._old, signal.SIGKILL) and gone(self._old)

    def is_over(self) -> bool:
        try:
            with self.platform.redis() as client:
                return bool(client.exists(EPOCH))
        except redis.RedisError:
            return False


class RedisWiped(RedisKilled):
    """kill -9 and the loss of all its files."""

    def strike(self) -> bool:
        try:
            with self.platform.redis() as client:
                client.set(CANARY, "alive")
        except redis.RedisError:
            return False
        old = self.platform.process("redis")
        # Standing still it cannot write its file anew between the deletion and its end.
        if old is None or not send(old, signal.SIGSTOP):
            return False
        for path in self.platform.redis_files():
            if path.is_dir():
                for inner in path.iterdir():
                    inner.unlink()
            else:
                path.unlink(missing_ok=True)
        self._old = old
        return send(old, signal.SIGKILL) and gone(old) and soon(self._forgot, within=15)

    def _forgot(self) -> bool:
        try:
            with self.platform.redis() as client:
                return client.get(CANARY) is None
        except redis.RedisError:
            return False


class RedisFlushed(RedisKilled):
    """FLUSHALL: every list, stream, group and key is gone."""

    def strike(self) -> bool:
        try:
            with self.platform.redis() as client:
                client.set(CANARY, "alive")
                client.flushall()
                return client.get(CANARY) is None
        except redis.RedisError:
            return False


class RedisFull(RedisKilled):
    """Memory at its limit: every write that needs more is refused."""

    seconds = (2.0, 6.0)
    _number = 0
    _before = ""
    _limit = ""

    def strike(self) -> bool:
        try:
            with self.platform.redis() as client:
                self._before = client.config_get("maxmemory")["maxmemory"]
                used = client.info("memory")["used_memory"]
                self._limit = str(used + 4 * FILLER_BYTES)
                client.config_set("maxmemory", self._limit)
        except redis.RedisError:
            return False
        return self._fill()

    def hold(self) -> None:
        self._fill()

    def _fill(self) -> bool:
        """Fill what is free; return whether Redis refused to take more."""
        try:
            with self.platform.redis() as client:
                # Another server in the meantime knows nothing of our limit: leave it alone.
                while client.config_get("maxmemory")["maxmemory"] == self._limit:
                    self._number += 1
                    client.set(f"{FILLER}:{self._number}", "x" * FILLER_BYTES)
        except redis.exceptions.OutOfMemoryError:
            return True
        except redis.RedisError:
            return False
        return False

    def release(self) -> None:
        if not self._limit:
            return
        with self.platform.redis() as client:
            client.config_set("maxmemory", self._before)
            for key in client.scan_iter(f"{FILLER}:*", count=1000):
                client.delete(key)

    def is_over(self) -> bool:
        try:
            with self.platform.redis() as client:
                client.set(CANARY, "alive")
                return client.config_get("maxmemory")["maxmemory"] == self._before
        except redis.RedisError:
            return False
