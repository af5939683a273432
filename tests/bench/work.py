"""What the steps of all three sides do: compute, and say when they began or ended.

A step says so by one `RPUSH` of its own `time.time()`. Only the last step of a workload (of each
run in W3; the first and only one in W4) says anything, on every side alike.
"""

from __future__ import annotations

import os
import time
from functools import cache
from urllib.parse import urlsplit, urlunsplit

import redis

#: Databases of the one Redis server: the platform has 0, each baseline its own, reports theirs.
DATABASES = {"raw": 1, "durable": 2, "reports": 3}
REPORTS = "bench:reports"
FIB = 10


def fib(number: int) -> int:
    """Compute a Fibonacci number the slow way: 6 µs for 10."""
    return number if number < 2 else fib(number - 1) + fib(number - 2)


def url_of(name: str) -> str:
    """Return the URL of a database of the measured installation's Redis."""
    parts = urlsplit(os.environ["REDIS_URL"])
    return urlunsplit(parts._replace(path=f"/{DATABASES[name]}"))


@cache
def reports() -> redis.Redis:
    """Return this process's client, made by the first step after the fork."""
    return redis.Redis.from_url(url_of("reports"), socket_timeout=None)


def say_now() -> None:
    """Report this moment."""
    reports().rpush(REPORTS, repr(time.time()))
