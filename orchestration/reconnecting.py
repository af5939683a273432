"""How a worker comes back to a Redis that was away.

Celery waits two seconds longer after each try, up to half a minute, and no setting says otherwise:
a worker would stand still for that long beside a Redis that is back.
"""

from __future__ import annotations

from typing import Any

from celery.app import amqp
from kombu import Connection

#: Between two tries to reach Redis, in seconds. A try at a refused port costs nothing.
RETRY_SECONDS = 1.0


class SteadyConnection(Connection):
    """Try again once a second, for as long as it takes."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connect as kombu does, without its growing pauses."""
        pauses = {
            "interval_start": RETRY_SECONDS,
            "interval_step": RETRY_SECONDS,
            "interval_max": RETRY_SECONDS,
        }
        return super().ensure_connection(*args, **(pauses | kwargs))


class SteadyAMQP(amqp.AMQP):
    """What Celery makes its connections with."""

    Connection = SteadyConnection
