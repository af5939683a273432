"""Count the calls of API callers in Redis, exactly over all web processes.

The generic cell rate algorithm: of each caller one moment is kept, at which all of its calls are
paid for, each call costing `seconds / limit`. A call passes while that moment lies no more than
`seconds` ahead. One key, one script, one round trip; the clock is that of Redis, and all numbers
are whole microseconds, so that the last call that passes is the same one every time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.access.throttling import Verdict
from orchestration import breakers

if TYPE_CHECKING:
    from engine.access.throttling import Rate

log = structlog.get_logger(__name__)

#: After an error calls pass uncounted for this long, without asking.
BREAK_SECONDS = 1.0
#: More than web has threads: nobody ever waits for a connection.
CONNECTIONS = 64
KEY = "throttle:"
MICROSECONDS = 1_000_000

# KEYS[1] the caller; ARGV[1] what a call costs, ARGV[2] how far ahead may be paid. Microseconds.
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local paid = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local cost, ahead = tonumber(ARGV[1]), tonumber(ARGV[2])
if paid + cost - now > ahead then
  return {0, paid - now}
end
local kept = math.ceil((paid + cost - now) / 1000) + 1
redis.call('SET', KEYS[1], string.format('%.0f', paid + cost), 'PX', kept)
return {1, paid + cost - now}
"""


class CallCounter:
    """Ask Redis; while it is away let calls pass, and say so once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, float], Any] = {}
        self._closed_until = 0.0
        self._is_away = False

    def take(self, caller: str, rate: Rate) -> Verdict | None:
        """Count a call of the caller; None while Redis does not answer in time."""
        if time.monotonic() < self._closed_until:
            return None
        cost = -(-rate.seconds * MICROSECONDS // rate.limit)
        ahead = cost * rate.limit
        # A digest: callers name themselves, at any length.
        name = hashlib.blake2b(caller.encode(), digest_size=16).hexdigest()
        try:
            passes, paid = self._script()(keys=[f"{KEY}{rate.kind}:{name}"], args=[cost, ahead])
        except (redis.RedisError, OSError) as exc:
            self._pause(exc)
            return None
        if self._is_away:
            self._is_away = False
            log.info("throttle_counts_again")
        return Verdict(
            rate=rate,
            passes=bool(passes),
            remaining=(ahead - paid) // cost,
            full_in=paid / MICROSECONDS,
            retry_in=0.0 if passes else (paid + cost - ahead) / MICROSECONDS,
        )

    def _pause(self, error: Exception) -> None:
        self._closed_until = time.monotonic() + BREAK_SECONDS
        with self._lock:
            was_away, self._is_away = self._is_away, True
        if not was_away:
            breakers.OPENED.labels(breakers.THROTTLING).inc()
            log.warning("throttle_counts_nothing", reason=f"{type(error).__name__}: {error}")

    def _script(self) -> Any:
        """Return the script on a client that waits for nothing longer than it is allowed to."""
        where = (settings.REDIS_URL, settings.THROTTLE_WAIT_SECONDS)
        found = self._clients.get(where)
        if found is None:
            url, seconds = where
            pool = redis.ConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                socket_timeout=seconds,
                socket_connect_timeout=seconds,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
                retry_on_error=[],
                protocol=2,
                client_name="automation-throttle",
            )
            client = redis.Redis(connection_pool=pool)
            found = cast("Any", client.register_script(SCRIPT))
            self._clients = {where: found}
        return found


counter = CallCounter()
