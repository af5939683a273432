"""Say in words why a dependency does not answer, without what its error says of the inside.

Health is asked without a token: addresses, names of roles and texts of drivers are for the log.
"""

from __future__ import annotations

import psycopg
import redis

from orchestration import streams

#: What the errors of a connection say, in any case, and what is told of it; the first that fits.
DATABASE = (
    ("authentication failed", "the database refuses the sign-in"),
    ("no password supplied", "the database refuses the sign-in"),
    ("does not exist", "the database or its role does not exist"),
    ("no pg_hba.conf entry", "the database refuses this machine"),
    ("too many clients", "the database has no connection left"),
    ("connection slots", "the database has no connection left"),
    ("starting up", "the database is starting"),
    ("in recovery", "the database is starting"),
    ("shutting down", "the database is stopping"),
    ("no answer within", "the database gave no answer in time"),
    ("timeout", "the database gave no answer in time"),
    ("canceling statement", "the database gave no answer in time"),
    ("refused", "the database refuses connections: it is not running, or not there"),
    ("no such file", "the database is not running"),
    ("closed", "the database closed the connection"),
    ("terminat", "the database closed the connection"),
    ("resolve", "the name of the database's machine is not known"),
)


def of(error: Exception) -> str:
    """Return why, for anybody."""
    if isinstance(error, streams.EvictionPolicyError):
        return str(error)
    if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
        return "the database lacks tables of this version: run python manage.py migrate"
    if isinstance(error, psycopg.Error):
        text = str(error).lower()
        return next(
            (words for part, words in DATABASE if part in text),
            f"the database answers with an error ({type(error).__name__})",
        )
    if isinstance(error, (redis.RedisError, OSError)):
        return _of_redis(error)
    return f"the look at it failed ({type(error).__name__})"


def _of_redis(error: redis.RedisError | OSError) -> str:
    if isinstance(error, redis.AuthenticationError):
        return "Redis refuses the sign-in"
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return "Redis gave no answer in time"
    if isinstance(error, redis.BusyLoadingError):
        return "Redis is loading its data"
    if isinstance(error, (redis.ConnectionError, OSError)):
        return "Redis refuses connections: it is not running, or not there"
    return f"Redis answers with an error ({type(error).__name__})"
