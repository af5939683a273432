"""Notice that Redis has lost its memory, and send everything again that may have been lost.

Redis keeps a token we gave it, and names its process (`run_id`). A missing token means that all is
gone; another process means that the last second may be gone (`appendfsync everysec`), or that a
replica took over. Either way the answer is the same, and only costs duplicates when it was wrong.
"""

from __future__ import annotations

import uuid
from typing import Any, cast

import structlog
from django.db import connection, transaction

from engine import leases
from orchestration import repairs, streams
from orchestration.manager.loop import Loop
from orchestration.models import BrokerEpoch
from orchestration.repairs import Repair

log = structlog.get_logger(__name__)


class BrokerEpochLoop(Loop):
    """Compare what Redis remembers with what PostgreSQL knows of it."""

    name = "broker_epoch"
    interval = 0.5

    _policy_complaint = ""

    def tick(self) -> bool:
        """Look once; on a change begin a new epoch."""
        client = streams.client()
        with client.pipeline(transaction=True) as pipe:
            pipe.get(streams.EPOCH)
            pipe.info("server")
            token, server = cast("tuple[bytes | None, dict[str, Any]]", tuple(pipe.execute()))
        known = BrokerEpoch.objects.first()
        run_id = str(server["run_id"])
        if (
            known is not None
            and token == str(known.token).encode()
            and run_id == known.server_run_id
        ):
            return False
        self._begin(known=known, run_id=run_id)
        return False

    def _begin(self, *, known: BrokerEpoch | None, run_id: str) -> None:
        """Make a new epoch, then tell Redis; a death in between is another change next time."""
        with connection.cursor() as cursor:
            # Before anything else: what is sent from now on goes to the Redis of now.
            cursor.execute("SELECT clock_timestamp()")
            (now,) = cursor.fetchone()
        token = uuid.uuid4()
        epoch = known.epoch + 1 if known else 1
        with transaction.atomic():
            BrokerEpoch.objects.update_or_create(
                pk=1,
                defaults={"token": token, "server_run_id": run_id, "epoch": epoch, "since": now},
            )
            returned = leases.broker_lost(sent_before=now)
        if streams.ensure_group() and known is not None:
            repairs.note(Repair.STREAM_GROUP, stream=streams.EVENTS)
        streams.client().set(streams.EPOCH, str(token))
        if known is not None:
            log.warning("broker_memory_lost", epoch=epoch, sent_again=returned)
            repairs.note(Repair.BROKER, returned)
        self._check_policy()

    @staticmethod
    def _check_policy() -> None:
        """Complain about a Redis that came back with another policy; do not leave it alone."""
        try:
            streams.check_policy()
        except streams.EvictionPolicyError as exc:
            log.critical("redis_eviction_policy", reason=str(exc))
