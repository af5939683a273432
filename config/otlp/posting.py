"""Post spans from beside, a batch at a time; whoever does not take them costs spans, never work."""

from __future__ import annotations

import logging
import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

import structlog
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

#: How long a span waits for others to be posted with, unless OTEL_BSP_SCHEDULE_DELAY says
#: otherwise. OpenTelemetry's own 5 s are what a killed process would lose.
DELAY_MILLISECONDS = 1000.0
#: The end of a process waits so long for its last spans to be taken, in seconds.
LAST_SPANS_SECONDS = 0.5
#: Loss that goes on is told again after so many seconds.
REPEAT_LOG_SECONDS = 300.0

log = structlog.get_logger(__name__)

# It would say something at each try; `Exporter` says it once, without what a receiver answered.
logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


class Exporter(SpanExporter):
    """Post spans, and say once in the log that nobody takes them."""

    def __init__(self, inner: SpanExporter) -> None:
        """Post by way of `inner`, which has a patience of its own."""
        self._inner = inner
        #: Whether the last ones were not taken, or not in time.
        self.is_away = False
        #: Spans that were not taken since some were.
        self.lost = 0
        self._told_at = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Post these; raises nothing."""
        try:
            result = self._inner.export(spans)
        except Exception as exc:  # noqa: BLE001 - whatever happens here ends nothing else
            result = SpanExportResult.FAILURE
            log.debug("spans_not_posted", error=type(exc).__name__)
        if result is SpanExportResult.SUCCESS:
            if self.lost:
                log.warning("spans_taken_again", lost=self.lost)
            self.is_away, self.lost = False, 0
            return result
        first, now = not self.lost, time.monotonic()
        self.lost += len(spans)
        if first or now - self._told_at > REPEAT_LOG_SECONDS:
            log.warning("spans_not_taken", lost=self.lost, doing="going on without them")
            self._told_at = now
        self.is_away = True
        return result

    def shutdown(self) -> None:
        """Post nothing more."""
        self._inner.shutdown()


class Processor(BatchSpanProcessor):
    """OpenTelemetry's own, with a flush that keeps its time.

    Theirs waits for as long as an answer may take, so it has a thread, which is there beforehand:
    none can be started at the end of a process.
    """

    def __init__(self, exporter: Exporter) -> None:
        """Begin the threads of this process; they inherit nothing from before a fork."""
        given = os.environ.get("OTEL_BSP_SCHEDULE_DELAY")
        super().__init__(exporter, schedule_delay_millis=None if given else DELAY_MILLISECONDS)
        self.exporter = exporter
        self._draining = False
        self._asked: SimpleQueue[threading.Event] = SimpleQueue()
        threading.Thread(target=self._flush_when_asked, name="spans", daemon=True).start()

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span for the next batch; post it now when this process is about to end."""
        super().on_end(span)
        if self._draining:
            self.flush_within(LAST_SPANS_SECONDS)

    def drain(self) -> None:
        """Post what is there, from beside, and each span that ends from now on."""
        self._draining = True
        self._asked.put(threading.Event())

    def flush_within(self, seconds: float) -> None:
        """Post what is there; nobody waits twice for a receiver that let him wait in vain."""
        if self.exporter.is_away:
            return
        done = threading.Event()
        self._asked.put(done)
        if not done.wait(seconds):
            self.exporter.is_away = True

    def _flush_when_asked(self) -> None:
        while True:
            asked = [self._asked.get()]
            while not self._asked.empty():
                asked.append(self._asked.get())
            self.force_flush()
            for done in asked:
                done.set()
