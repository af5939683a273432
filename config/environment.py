"""Typed readers of environment variables. A wrong value is one line that names the variable."""

from __future__ import annotations

import logging
import math
import os
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from django.core.exceptions import ImproperlyConfigured

from engine.access import throttling
from engine.postgresql.bounded import Connection
from engine.webhooks import addresses

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def text(name: str, default: str) -> str:
    """Return a variable; `NAME_FILE` names a file that holds it (container secrets)."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 - any path, also /dev/fd
                return file.read().strip()
        except OSError as exc:
            raise ImproperlyConfigured(f"{name}_FILE: cannot read {path}: {exc.strerror}") from exc
    return os.environ.get(name, default)


def words(name: str, default: str) -> list[str]:
    """Return a comma-separated variable as a list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def networks(name: str) -> tuple[addresses.Network, ...]:
    """Return a comma-separated variable of CIDRs as networks."""
    try:
        return addresses.networks(words(name, ""))
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}: {exc}") from None


def flag(name: str, *, default: bool) -> bool:
    """Return a yes/no variable."""
    value = text(name, "1" if default else "0").lower()
    if value in _TRUE | _FALSE:
        return value in _TRUE
    raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}")


def integer(name: str, default: int) -> int:
    """Return a whole number."""
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}") from None


def count(name: str, default: int) -> int:
    """Return a whole number from 0 on."""
    found = integer(name, default)
    if found < 0:
        raise ImproperlyConfigured(f"{name} must be 0 or more, not {found}")
    return found


def level(name: str, default: str) -> str:
    """Return the name of a level of the log, in capitals."""
    value = text(name, default).upper()
    names = logging.getLevelNamesMapping()
    if value not in names:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(names)}, not {value!r}")
    return value


def number(name: str, default: float) -> float:
    """Return a positive number."""
    value = text(name, str(default))
    try:
        found = float(value)
    except ValueError:
        found = 0.0
    if 0 < found < math.inf:
        return found
    raise ImproperlyConfigured(f"{name} must be a number above 0, not {value!r}")


def rates(name: str, default: str) -> dict[str, throttling.Rate]:
    """Return a comma-separated list of `kind=limit/unit` by kind; empty for no limits at all."""
    try:
        return throttling.parse(words(name, default))
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}: {exc}") from None


def database(name: str, *, pooled: bool) -> dict[str, Any]:
    """Return Django's description of `postgresql://user:pass@host:port/db?pool_size=&max_overflow=`.

    `?host=/path` names a Unix socket's folder. Without the variable the description is empty of
    a host: commands that need no database still work, the others say what is missing.
    pooled: take connections from a pool of `pool_size` (4) plus `max_overflow` (0) per process.
    """
    url = urlsplit(text(name, "postgresql:///engine"))
    if url.scheme not in {"postgresql", "postgres"}:
        raise ImproperlyConfigured(
            f"{name} must begin with postgresql://, not {url.scheme or 'nothing'}:// "
            "(the platform runs on PostgreSQL 15 or newer)"
        )
    query = dict(parse_qsl(url.query))
    pool_size = query.pop("pool_size", "")
    overflow = query.pop("max_overflow", "")
    prepare = query.pop("prepare_threshold", "5")
    try:
        threshold = None if prepare == "none" else int(prepare)
        port = url.port or query.pop("port", "")
        pool = {
            "connection_class": Connection,
            "min_size": 1,
            "max_size": int(pool_size or 4) + int(overflow or 0),
            "timeout": 10,
        }
    except ValueError as exc:
        raise ImproperlyConfigured(
            f"{name}: port, pool_size, max_overflow and prepare_threshold must be whole numbers "
            "(prepare_threshold=none behind PgBouncer)"
        ) from exc
    return {
        "ENGINE": "engine.postgresql",
        "NAME": unquote(url.path.lstrip("/")) or "engine",
        "USER": unquote(url.username or query.pop("user", "")),
        "PASSWORD": unquote(url.password or ""),
        "HOST": query.pop("host", "") or url.hostname or "",
        "PORT": str(port),
        # Django allows a pool only where connections do not outlive a request.
        "CONN_MAX_AGE": 0 if pooled else None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": 5,
            # A connection whose other end is gone without a word fails within seconds, not hours:
            # the heartbeat of a running step waits on one.
            "tcp_user_timeout": 15_000,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "application_name": "ai-business-engine",
            # psycopg prepares nothing at all while this is None, Django's default. Only the hot
            # statements ask for it (engine.sql); Django's own cursor binds on the client.
            "prepare_threshold": threshold,
            **({"pool": pool} if pooled else {}),
            **query,
        },
    }


def redis_location(name: str) -> str:
    """Return a Redis URL; `?max_connections=` stays in it for the clients that understand it."""
    value = text(name, "redis://127.0.0.1:6379/0")
    url = urlsplit(value)
    if url.scheme not in {"redis", "rediss", "unix"}:
        raise ImproperlyConfigured(f"{name} must begin with redis:// or rediss://")
    return value


def without_query(url: str, *names: str) -> str:
    """Return the URL without the named query parameters."""
    parts = urlsplit(url)
    kept = [(key, value) for key, value in parse_qsl(parts.query) if key not in names]
    return urlunsplit(parts._replace(query=urlencode(kept)))
