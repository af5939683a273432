"""Send what is ready, as much as the workers take: the backlog stays here, in line by priority.

What is ready: what the fast path left to the manager (`Publisher.is_backed_up`), could not send,
or may not send (a lane with a limit). What stands in a queue is in no order of priority, so a queue
is given no more than about a quarter second's work, and what is urgent goes before all of it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from engine import lanes, spans, tracing
from orchestration import publisher, streams
from orchestration.manager.bell import Bell
from orchestration.manager.loop import Loop
from orchestration.manager.window import Window

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from engine.publishing import ReadyStep

#: Seconds between ticks while something is sent, and at most when there is nothing to send.
BUSY_SECONDS, IDLE_SECONDS = 0.025, 0.25
#: Steps of a higher priority than usual do not wait for room in their queue: so many at a time go
#: before what stands there.
NORMAL_PRIORITY, URGENT_STEPS = 0, 16


class Dispatcher(Loop):
    """READY rows become messages, within the limits of their lanes."""

    name = "dispatcher"
    interval = IDLE_SECONDS

    def __init__(self, *, stop: threading.Event) -> None:
        super().__init__(stop=stop)
        self._bell = Bell()
        #: Lane -> how much its queue takes.
        self._windows: dict[str, Window] = {}
        #: Queues for which more stands in line than could be sent.
        self._lines: set[str] = set()

    def rest(self, seconds: float) -> bool:
        """Pause, but not after somebody has said that there is something to send."""
        if self.state != "working" or seconds <= BUSY_SECONDS:
            return super().rest(seconds)
        if self._bell.wait(seconds, stop=self._stop):
            self.interval = BUSY_SECONDS  # what the bell was rung for may not be committed yet
        return self._stop.is_set()

    def tick(self) -> bool:
        """Give each open lane with ready steps a turn."""
        found = lanes.with_ready()
        depths = streams.depths(found.values()) if found else {}
        sent = sum(self._serve(lane, depths[queue]) for lane, queue in found.items())
        self._windows = {lane: self._windows[lane] for lane in found}
        lines = {queue for lane, queue in found.items() if self._windows[lane].is_short}
        streams.note_lines(standing=lines, gone=self._lines - lines)
        self._lines = lines
        self.interval = BUSY_SECONDS if sent else min(self.interval * 2, IDLE_SECONDS)
        return False

    def _serve(self, lane: str, depth: int) -> int:
        """Send some of one lane; return how many steps that were."""
        window = self._windows.setdefault(lane, Window())
        now = time.monotonic()
        limit = window.room(depth=depth, now=now)
        window.is_short = not limit
        if not limit:
            return self._send_urgent(lane, window, depth, now)
        sent = self._send(lane, window, limit=limit)
        window.note(sent=sent, depth=depth, now=now)
        window.is_short = sent >= limit
        return sent

    def _send_urgent(self, lane: str, window: Window, depth: int, now: float) -> int:
        """Put what is of a higher priority than usual before what stands in the queue."""
        if not window.lets_pass(depth=depth, now=now):
            return 0
        sent = self._send(lane, window, limit=URGENT_STEPS, above=NORMAL_PRIORITY)
        if sent:
            window.note_urgent(depth=depth, now=now)
        return sent

    def _send(self, lane: str, window: Window, *, limit: int, above: int | None = None) -> int:
        send = partial(publisher.publisher.send, spread=window.spread, first=above is not None)
        dispatch = partial(lanes.dispatch, lane=lane, limit=limit, above=above)
        if tracing.is_on():
            return self._send_traced(dispatch, send)
        return self.guarded(partial(dispatch, send=send))

    def _send_traced(
        self, dispatch: Callable[..., int], send: Callable[[Sequence[ReadyStep]], None]
    ) -> int:
        """Send, and tell the traces of the runs whose steps were sent."""
        began = time.monotonic()
        taken: list[ReadyStep] = []

        def noting(steps: Sequence[ReadyStep]) -> None:
            send(steps)
            taken.extend(steps)

        sent = self.guarded(partial(dispatch, send=noting))
        if sent:
            took = time.monotonic() - began
            self.guarded(partial(spans.dispatched, taken, took_seconds=took))
        return sent
