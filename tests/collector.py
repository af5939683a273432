"""A receiver of spans: OTLP over real HTTP, protobuf parsed by OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """A span as it came, ids in hex; `resource` is what its process says of itself."""

    name: str
    kind: str
    trace_id: str
    id: str
    parent: str
    words: dict[str, Any]
    failed: bool
    links: list[tuple[str, str]]
    begun: int
    ended: int
    resource: dict[str, Any]

    @property
    def service(self) -> str:
        return self.resource["service.name"]


class Collector:
    """Take spans; `status` is what it answers, and it holds its answer while `answering` is off."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        #: Bodies and header fields as they came.
        self.bodies: list[bytes] = []
        self.fields: list[dict[str, str]] = []
        self.status = 200
        self.answering = threading.Event()
        self.answering.set()
        world = self

        class Desk(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                world.bodies.append(body)
                world.fields.append(dict(self.headers.items()))
                world.answering.wait(30)
                if world.status == 200 and self.path == "/v1/traces":
                    world.take(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(world.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_words: object) -> None:
                """Callers may go away in the middle."""

        self._server = Quiet(("127.0.0.1", 0), Desk)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: bytes) -> None:
        """Read what came; raises for anything that is not OTLP."""
        request = ExportTraceServiceRequest.FromString(body)
        for one in request.resource_spans:
            resource = _words(one.resource.attributes)
            for scope in one.scope_spans:
                self.spans.extend(_span(message, resource) for message in scope.spans)

    def of(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace, in the order in which they began."""
        found = [span for span in list(self.spans) if span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.begun)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _span(message: Message, resource: dict[str, Any]) -> Span:
    return Span(
        name=message.name,
        kind=Message.SpanKind.Name(message.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=message.trace_id.hex(),
        id=message.span_id.hex(),
        parent=message.parent_span_id.hex(),
        words=_words(message.attributes),
        failed=message.status.code == Status.STATUS_CODE_ERROR,
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in message.links],
        begun=message.start_time_unix_nano,
        ended=message.end_time_unix_nano,
        resource=resource,
    )


def _words(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
