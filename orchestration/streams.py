"""The platform's own Redis client, and the two streams: `automation.events`, `automation.dlq`.

Redis 6.2 is enough. Every key here may vanish at any time; only PostgreSQL is asked for the truth.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

EVENTS = "automation.events"
DLQ = "automation.dlq"
GROUP = "manager"
#: Hints about worker processes that died, pushed by their parents, popped by the reaper.
WORKERS_LOST = "automation:workers_lost"
#: What every worker last said of itself: hostname -> JSON.
WORKERS = "automation:workers"
#: The channel on which the dispatcher is told that something waits for it.
WAKE = "automation:wake"
#: There is one with a queue's name behind it while steps for the queue stand in line before it.
LINE = "automation:line:"
#: The broker's memory; see `orchestration.manager.broker_epoch`.
EPOCH = "automation:epoch"
#: What every manager last said of itself: name -> JSON.
MANAGERS = "automation:managers"
#: The last sample of the gauges, for web's /metrics.
METRICS_SAMPLE = "automation:metrics"

#: A line that its dispatcher does not speak of for so long is forgotten: a manager died.
LINE_MILLISECONDS = 1000

#: About how many entries a stream keeps; Redis trims in whole nodes.
EVENTS_MAX_LENGTH = 100_000
DLQ_MAX_LENGTH = 10_000

#: A reply that takes longer than this, beyond the time a command may block, is a dead connection.
REPLY_SECONDS = 5.0
CONNECT_SECONDS = 2.0
#: How long a thread waits for a free connection of the pool.
POOL_WAIT_SECONDS = 5.0

#: Errors that mean "Redis is away or not willing now", as opposed to a wrong command.
AWAY = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError, OSError)


class EvictionPolicyError(Exception):
    """Refuse a Redis that would drop queues when its memory is full."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream. `fields` is None when it was trimmed while pending."""

    id: str
    fields: dict[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """How far the group is. Seconds by the ids, which are the server's milliseconds."""

    length: int
    undelivered: int
    pending: int
    lag_seconds: float


@lru_cache(maxsize=16)
def _client(url: str, reply_seconds: float) -> redis.Redis:
    """Return a client whose every option that matters is said, not inherited.

    redis-py's defaults retry ten times (a retried XADD is two entries) and time out after 5 s
    (a blocking read of 5 s never returns).
    """
    pool = redis.BlockingConnectionPool.from_url(
        url,
        timeout=min(POOL_WAIT_SECONDS, reply_seconds),
        socket_timeout=reply_seconds,
        socket_connect_timeout=min(CONNECT_SECONDS, reply_seconds),
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        protocol=2,
        client_name="automation-app",
    )
    return redis.Redis(connection_pool=pool)


def client(*, block_seconds: float = 0.0, reply_seconds: float = REPLY_SECONDS) -> redis.Redis:
    """Return this process's client for commands that block up to `block_seconds`.

    Threads share its pool; a forked child gets new connections by itself.
    """
    return _client(settings.REDIS_URL, block_seconds + reply_seconds)


@contextmanager
def lone_client() -> Iterator[redis.Redis]:
    """Give a client with one connection of its own, for a moment when no lock can be trusted."""
    found = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=QUICK_SECONDS,
        socket_connect_timeout=QUICK_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        client_name="automation-app",
    )
    try:
        yield found
    finally:
        found.close()


def close() -> None:
    """Close every connection of this process (before a fork, at the end of a test)."""
    # The cache is the only list of clients there is.
    for reply_seconds in {REPLY_SECONDS, QUICK_SECONDS, READ_BLOCK_SECONDS + REPLY_SECONDS}:
        _client(settings.REDIS_URL, reply_seconds).connection_pool.disconnect()
    _client.cache_clear()


#: For callers that must not wait: a worker's event loop, a health probe.
QUICK_SECONDS = 0.5
#: How long the event consumer waits for a new entry before it looks around.
READ_BLOCK_SECONDS = 1.0


def ping() -> None:
    """Raise one of `AWAY` unless Redis answers within half a second."""
    client(reply_seconds=QUICK_SECONDS).ping()


def check_policy() -> None:
    """Raise EvictionPolicyError unless Redis refuses writes when full; any of AWAY when away.

    INFO is asked, not CONFIG, which managed services forbid.
    """
    info = client().info("memory")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise EvictionPolicyError(
            f"Redis has maxmemory-policy {policy}: when its memory is full it would silently drop "
            "queues and events. Set it: redis-cli CONFIG SET maxmemory-policy noeviction "
            "(and in redis.conf, so that it stays)"
        )


def ensure_group() -> bool:
    """Create stream and group where missing, from the first entry on; return whether it was new.

    From the first, not from now: an entry read again meets its dedupe key and does no harm, an
    entry never read is a lost request.
    """
    _ensure_dead_letters()
    try:
        client().xgroup_create(EVENTS, GROUP, id="0", mkstream=True)
    except redis.ResponseError as exc:
        if not str(exc).startswith("BUSYGROUP"):
            raise
        return False
    return True


def _ensure_dead_letters() -> None:
    """Create `automation.dlq`, empty: who asks for it before it is needed is told that it is so."""
    name = "making"
    with client().pipeline(transaction=True) as pipe:
        pipe.xgroup_create(DLQ, name, mkstream=True)
        pipe.xgroup_destroy(DLQ, name)
        pipe.execute(raise_on_error=False)


def is_group_missing(error: BaseException) -> bool:
    """Return whether an error says that the stream or its group is gone."""
    return isinstance(error, redis.ResponseError) and str(error).startswith("NOGROUP")


def read_new(*, consumer: str, count: int) -> list[Entry]:
    """Return entries nobody got yet; waits up to READ_BLOCK_SECONDS."""
    return _read(consumer, ">", count, block=int(READ_BLOCK_SECONDS * 1000))


def read_backlog(*, consumer: str, count: int, after: str = "0") -> list[Entry]:
    """Return entries this consumer got and never acknowledged, oldest first."""
    return _read(consumer, after, count, block=None)


def _read(consumer: str, position: str, count: int, *, block: int | None) -> list[Entry]:
    reply: Any = client(block_seconds=READ_BLOCK_SECONDS).xreadgroup(
        GROUP, consumer, {EVENTS: position}, count=count, block=block
    )
    return [entry for _stream, entries in reply or [] for entry in _entries(entries)]


def _entries(raw: Iterable[Any]) -> list[Entry]:
    return [Entry(pair[0].decode(), pair[1] or None) for pair in raw if pair and pair[0]]


def claim_idle(
    *, consumer: str, idle_seconds: float, count: int, start: str = "0-0"
) -> tuple[str, list[Entry], bool]:
    """Take over entries that others left unacknowledged.

    Return where to go on, the entries, and whether some of them were trimmed meanwhile: Redis 7
    forgets those by itself, 6.2 leaves nameless holes, which our own backlog then names.
    """
    reply: Any = client().execute_command(  # type: ignore[no-untyped-call] # redis-py leaves it so
        "XAUTOCLAIM", EVENTS, GROUP, consumer, int(idle_seconds * 1000), start, "COUNT", count
    )
    position, raw = reply[0], reply[1] or []
    following = position.decode() if isinstance(position, bytes) else str(position)
    entries = _entries(raw)
    return following, entries, len(entries) < len(raw)


def deliveries(ids: Sequence[str]) -> dict[str, int]:
    """Return how often each pending entry was delivered."""
    if not ids:
        return {}
    with client().pipeline(transaction=False) as pipe:
        for entry_id in ids:
            pipe.xpending_range(EVENTS, GROUP, min=entry_id, max=entry_id, count=1)
        replies = pipe.execute()
    return {
        found["message_id"].decode(): int(found["times_delivered"])
        for reply in replies
        for found in reply
    }


def acknowledge(ids: Sequence[str]) -> None:
    """Tell the group that these entries are done."""
    if ids:
        client().xack(EVENTS, GROUP, *ids)


def refuse(entry: Entry, *, code: str, reason: str, at: str) -> None:
    """Move an entry to the dead letter stream with the reason, and acknowledge it, in one go.

    The original fields keep their names and bytes; one that is called as ours gets `original_`.
    """
    ours = {
        b"reason": reason.encode(),
        b"error_code": code.encode(),
        b"source_stream": EVENTS.encode(),
        b"source_entry_id": entry.id.encode(),
        b"refused_at": at.encode(),
    }
    original = {
        (b"original_" + name if name in ours else name): value
        for name, value in (entry.fields or {}).items()
    }
    with client().pipeline(transaction=True) as pipe:
        pipe.xadd(DLQ, cast("Any", {**original, **ours}), maxlen=DLQ_MAX_LENGTH, approximate=True)
        pipe.xack(EVENTS, GROUP, entry.id)
        pipe.execute()


def append(events: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """Append (stream, fields) in order, in one round trip; raises when any was refused."""
    with client().pipeline(transaction=False) as pipe:
        for stream, fields in events:
            limit = DLQ_MAX_LENGTH if stream == DLQ else EVENTS_MAX_LENGTH
            pipe.xadd(stream, cast("Any", dict(fields)), maxlen=limit, approximate=True)
        pipe.execute()


def milliseconds(entry_id: str | bytes) -> int:
    """Return the server time an entry id carries."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.partition("-")[0] or 0)


def status() -> GroupStatus:
    """Return length, undelivered, pending and lag of the group, on Redis 6.2 as well.

    Redis 7 says `lag`, but not after deletions, and 6.2 never does: what stands after the last
    delivered id is counted instead, up to 1,000, and estimated beyond.
    """
    connection = client()
    if not connection.exists(EVENTS):
        return GroupStatus(length=0, undelivered=0, pending=0, lag_seconds=0.0)
    groups: Any = connection.xinfo_groups(EVENTS)
    group = next((found for found in groups if found["name"] == GROUP.encode()), None)
    length = int(cast("Any", connection.xlen(EVENTS)))
    if group is None:
        return GroupStatus(length=length, undelivered=length, pending=0, lag_seconds=0.0)
    pending = int(group["pending"])
    last = group["last-delivered-id"].decode()
    waiting: Any = connection.xrange(EVENTS, min=f"({last}", count=1_000)
    undelivered = len(waiting)
    if undelivered == 1_000:  # noqa: PLR2004 - the count asked for above
        undelivered = max(undelivered, min(length, int(group.get("lag") or length)))
    oldest = [milliseconds(waiting[0][0])] if waiting else []
    if pending:
        summary: Any = connection.xpending(EVENTS, GROUP)
        if summary["min"]:
            oldest.append(milliseconds(summary["min"]))
    lag = 0.0
    if oldest:
        seconds, micros = connection.time()
        lag = max(0.0, seconds + micros / 1e6 - min(oldest) / 1000)
    return GroupStatus(length=length, undelivered=undelivered, pending=pending, lag_seconds=lag)


def depth(queue: str) -> int:
    """Return how many messages wait in a Celery queue."""
    return int(cast("Any", client().llen(queue)))


def listener(channel: str) -> Any:
    """Return a subscription to a channel; what is said there while nobody listens is lost."""
    found: Any = client()
    subscription = found.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(channel)
    return subscription


def depths(queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages wait in each of these Celery queues, in one round trip.

    A key that is no list counts as empty: whoever sends to it hears of the error.
    """
    names = list(queues)
    with client().pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(name)
        replies = pipe.execute(raise_on_error=False)
    return {
        name: found if isinstance(found, int) else 0
        for name, found in zip(names, replies, strict=True)
    }


def note_lines(*, standing: Iterable[str], gone: Iterable[str]) -> None:
    """Note before which queues a line stands, for a second, and before which it no longer does."""
    with client().pipeline(transaction=False) as pipe:
        for queue in standing:
            pipe.set(LINE + queue, 1, px=LINE_MILLISECONDS)
        for queue in gone:
            pipe.delete(LINE + queue)
        if len(pipe):
            pipe.execute()


def backlog(queue: str, *, reply_seconds: float) -> tuple[int, bool]:
    """Return how many messages wait in a Celery queue, and whether a line stands before it."""
    with client(reply_seconds=reply_seconds).pipeline(transaction=False) as pipe:
        pipe.llen(queue)
        pipe.exists(LINE + queue)
        depth, line = pipe.execute()
    return int(depth), bool(line)


def waiting(queue: str, *, limit: int) -> list[bytes]:
    """Return the encoded messages of a queue, the next one to be taken last."""
    return cast("list[bytes]", client().lrange(queue, -limit, -1))
