"""OpenTelemetry behind `engine.tracing`: the only package that imports it.

Spans wait in memory for a thread that posts them (`posting`). It is begun with the first span of a
process, so after the fork of a worker's children, whose parent must have no thread.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.re import parse_env_headers

from config.otlp.posting import LAST_SPANS_SECONDS, Exporter, Processor
from engine import tracing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVICE = "ai-business-engine"
NANOSECONDS = 1_000_000_000

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}

log = structlog.get_logger(__name__)


class Tracer:
    """Make spans, in whichever process it finds itself."""

    def __init__(self, *, endpoint: str, headers: str) -> None:
        self._endpoint = endpoint
        self._headers = parse_env_headers(headers, liberal=True)
        self._lock = threading.Lock()
        self._pid = 0
        self._processor: Processor | None = None
        self._tracer: trace.Tracer = trace.NoOpTracer()
        # What cannot be made is told at start, not in the middle of somebody's work.
        self._exporter()
        TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)

    def begin(
        self,
        name: str,
        *,
        kind: tracing.Kind,
        parent: str,
        words: Mapping[str, tracing.Value],
        links: Sequence[str],
        ago_seconds: float,
    ) -> tracing.Span:
        """Begin a span (see `engine.tracing.Tracer`)."""
        try:
            if self._pid != os.getpid():
                self._begin_process()
            span = self._tracer.start_span(
                name,
                context=_below(parent),
                kind=_KINDS[kind],
                attributes=dict(words),
                links=[Link(_context(link)) for link in links],
                start_time=_moment(ago_seconds),
                record_exception=False,
                set_status_on_exception=False,
            )
        except Exception:
            # Never at the cost of what is done; the next one would fail alike.
            log.exception("tracing_failed", doing="going on without it until the next start")
            tracing.register(None)
            return tracing.NOTHING
        return _Span(span)

    def flush(self, seconds: float) -> None:
        """Post what has ended, within so many seconds; at once when nobody has taken the last."""
        if self._pid == os.getpid() and self._processor is not None:
            self._processor.flush_within(seconds)

    def drain(self) -> None:
        """Post each span when it ends from now on."""
        if self._pid == os.getpid() and self._processor is not None:
            self._processor.drain()

    def _begin_process(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            self._processor = Processor(Exporter(self._exporter()))
            provider.add_span_processor(self._processor)
            self._tracer = provider.get_tracer(SERVICE)
            # OpenTelemetry's own end would wait for a receiver that is away as long as it takes.
            atexit.register(self.flush, LAST_SPANS_SECONDS)
            self._pid = os.getpid()

    def _exporter(self) -> OTLPSpanExporter:
        return OTLPSpanExporter(endpoint=self._endpoint, headers=self._headers)


class _Span:
    """One span, ended once by whoever comes first: a step may be judged from beside its body."""

    __slots__ = ("_before", "_ended", "_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._ended = False
        self._before = ""
        found = span.get_span_context()
        self.traceparent = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"

    def note(self, words: Mapping[str, tracing.Value], *, name: str = "") -> None:
        self._span.set_attributes(dict(words))
        if name:
            self._span.update_name(name)

    def end(
        self, words: Mapping[str, tracing.Value], *, error: str = "", ago_seconds: float = 0.0
    ) -> None:
        if self._ended:
            return
        self._ended = True
        self._span.set_attributes(dict(words))
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(_moment(ago_seconds))

    def __enter__(self) -> Self:
        self._before = tracing.current.get()
        tracing.current.set(self.traceparent)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        tracing.current.set(self._before)
        self.end({}, error=_code(error) if error is not None else "")


def _resource() -> Resource:
    """Return what is said of this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    own: dict[str, Any] = {
        SERVICE_NAME: f"{SERVICE}-{tracing.role()}",
        "service.namespace": SERVICE,
        "service.instance.id": f"{socket.gethostname()}/{os.getpid()}",
    }
    given = Resource.create()
    unsaid = {name: value for name, value in own.items() if not _is_said(given, name)}
    return given.merge(Resource(unsaid))


def _is_said(given: Resource, name: str) -> bool:
    value = str(given.attributes.get(name, ""))
    return bool(value) and not (name == SERVICE_NAME and value.startswith("unknown_service"))


def _below(parent: str) -> Context:
    """Return the context of a parent that is somewhere else, or of none: nothing is implied."""
    span = NonRecordingSpan(_context(parent)) if parent else trace.INVALID_SPAN
    return trace.set_span_in_context(span, Context())


def _context(traceparent: str) -> SpanContext:
    _version, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(flags, 16)),
    )


def _moment(ago_seconds: float) -> int:
    return time.time_ns() - int(ago_seconds * NANOSECONDS)


def _code(error: BaseException) -> str:
    """Return what is said of an error: its code or its class, never its text."""
    return str(getattr(error, "code", "") or type(error).__name__)[:100]
