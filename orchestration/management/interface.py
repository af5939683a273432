"""A command that speaks to Redis: what Redis says against it is one line as well."""

from __future__ import annotations

from typing import Any

import redis
from django.core.management.base import CommandError

from engine.management.interface import OperatorCommand


class BrokerCommand(OperatorCommand):
    """An operator's command on streams."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Translate what Redis refuses, or that it is away, into one line and exit code 1."""
        try:
            return super().execute(*args, **options)
        except redis.ResponseError as exc:
            raise CommandError(f"Redis refused: {exc}") from exc
        except (redis.RedisError, ConnectionError) as exc:
            raise CommandError(f"Redis is away: {exc}") from exc
