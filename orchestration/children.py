"""Look for children of a worker that died, twice a second.

Celery looks when a child's pipe closes, but the kernel closes it a moment before the child can be
waited for: a look in between finds it alive, and the next one comes five seconds later. Until then
nobody tells the reaper, and the child is not replaced.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps

LOOK_SECONDS = 0.5


class ChildrenStep(bootsteps.StartStopStep):
    """Let the pool count its children by the parent's own timer."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self._entry: Any = None
        super().__init__(consumer, **kwargs)

    def start(self, consumer: Any) -> None:
        """Begin to look; called again after each reconnection to the broker."""
        look = getattr(getattr(consumer.pool, "_pool", None), "maintain_pool", None)
        if look is not None:
            self._entry = consumer.timer.call_repeatedly(LOOK_SECONDS, look)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop looking."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def shutdown(self, consumer: Any) -> None:
        """Stop looking at the end of the process."""
        self.stop(consumer)
