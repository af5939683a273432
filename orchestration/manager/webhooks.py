"""Tell other systems what has happened: claim deliveries that are due, post them, note the answers.

The posts are made beside this thread (`engine.webhooks.sender`), outside any transaction, so that
neither a slow receiver nor a silent one holds up the others, or this loop.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog
from django.conf import settings

from engine.access.sealing import UnsealableError
from engine.webhooks import deliveries
from engine.webhooks.posting import Answer
from engine.webhooks.sender import Sender
from orchestration.manager import outages
from orchestration.manager.loop import Loop

if TYPE_CHECKING:
    import threading

    from engine.webhooks.deliveries import Claimed
    from engine.webhooks.posting import Resolve

log = structlog.get_logger(__name__)

#: Letters on the way at once: in all, and to one endpoint.
AT_ONCE, AT_ONCE_EACH = 64, 4
#: Seconds between ticks while letters are on the way, and while none is.
BUSY_SECONDS, IDLE_SECONDS = 0.05, 0.5
#: How long letters on the way may go on after the manager was told to stop, in seconds.
DRAIN_SECONDS = 2.0
#: How often old deliveries are looked for, in seconds.
FORGET_EVERY_SECONDS = 60.0


class Webhooks(Loop):
    """At least once: receivers drop doubles by `webhook-id`."""

    name = "webhooks"
    interval = IDLE_SECONDS

    _forgot_at = 0.0

    def __init__(self, *, stop: threading.Event, resolve: Resolve | None = None) -> None:
        super().__init__(stop=stop)
        self.sender = Sender(allowed=settings.WEBHOOK_ALLOWED_NETWORKS, resolve=resolve)

    def tick(self) -> bool:
        """Note what was answered, then send as much as may be on the way."""
        self._record()
        busy = self.sender.busy
        room = AT_ONCE - busy.total()
        if room:
            for claimed in deliveries.claim(limit=room, each=AT_ONCE_EACH, busy=busy):
                self.guarded(partial(self._send, claimed))
        if time.monotonic() - self._forgot_at > FORGET_EVERY_SECONDS:
            self._forgot_at = time.monotonic()
            self.guarded(lambda: deliveries.forget(days=settings.WEBHOOK_LOG_DAYS))
        self.interval = BUSY_SECONDS if self.sender.busy else IDLE_SECONDS
        return False

    def run(self) -> None:
        """Turn until told to stop."""
        super().run()
        self.sender.close()

    def rest(self, seconds: float) -> bool:
        """Pause; when told to stop, first wait a moment for what is on the way."""
        if not super().rest(seconds):
            return False
        if self.state == "working":
            self._drain()
        return True

    def _record(self) -> int:
        found = self.sender.finished()
        for claimed, answer in found:
            # A row that cannot be written is left to its lease, and tried again after that.
            self.guarded(partial(self._note, claimed, answer))
            self.sender.done(claimed)
        return len(found)

    def _note(self, claimed: Claimed, answer: Answer) -> int:
        recorded = deliveries.record(claimed, answer)
        log.info(
            "webhook_sent" if not answer.error_code else "webhook_failed",
            webhook=claimed.endpoint_id,
            delivery=claimed.id,
            attempt=claimed.tries,
            response_code=answer.response_code,
            error_code=answer.error_code,
            duration_ms=answer.duration_ms,
            recorded=recorded,
        )
        return int(recorded)

    def _send(self, claimed: Claimed) -> int:
        try:
            letter = deliveries.letter(claimed)
        except UnsealableError as exc:
            deliveries.record(claimed, Answer(exc.code, excerpt=exc.message))
            return 0
        self.sender.send(claimed, letter)
        return 1

    def _drain(self) -> None:
        """Note what is still answered, give back the rest: whoever works next sends it at once."""
        deadline = time.monotonic() + DRAIN_SECONDS
        with contextlib.suppress(*outages.AWAY):  # then their leases end by themselves
            while self.sender.busy and time.monotonic() < deadline:
                time.sleep(BUSY_SECONDS)
                self._record()
            for claimed in self.sender.close():
                self.guarded(partial(deliveries.release, claimed))
