"""Seal the audit trail: what was recorded a moment ago becomes a link of the chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from engine.audit import sealing
from engine.audit.sealing import Sealer
from orchestration.manager.loop import Loop

if TYPE_CHECKING:
    import threading

log = structlog.get_logger(__name__)


class Sealing(Loop):
    """Seal in batches; between two turns at most a second of records is outside of the chain."""

    name = "sealing"
    interval = 1.0

    def __init__(self, *, stop: threading.Event) -> None:
        super().__init__(stop=stop)
        self._sealer = Sealer()

    def gained(self) -> None:
        """Begin with the end of the chain: another manager may have sealed since."""
        self._sealer = Sealer()
        if sealing.is_owned():
            # Only the chain, and a head kept elsewhere, protect a trail that we could change.
            log.warning("audit_trail_is_ours", remedy="manage.py database_roles")

    def tick(self) -> bool:
        """Seal a batch; tell if there is more."""
        return self._sealer.turn()
