"""Every request gets an id, keeps its trace, and is counted by its route (CONTRACT §4)."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING

import structlog
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

from config import exposition
from engine import trace_context, tracing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

HEADER = "X-Request-ID"
#: A caller's own id is kept when it cannot hurt a log line.
_SAFE_ID = re.compile(r"[\w.:+/=-]{1,100}", re.ASCII)
#: Label of requests that no route answers; raw paths would make endless series.
UNROUTED = "unrouted"
#: Answered without the database, and asked all the time: neither queues nor traces for these.
HEALTH_PATHS = frozenset({"/livez", "/readyz", "/health", "/health/manager", "/metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Key of a request's scope: when all of it had arrived, on the clock of `time.perf_counter`.
ARRIVED = "arrived"
SERVER_ERROR = 500
CLIENT_ERROR = 400

REQUESTS = Counter("api_requests_total", "Requests answered", ["method", "route", "status"])
LATENCY = Histogram(
    "api_request_latency_seconds",
    "Time from the request to its answer",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ERRORS = Counter("api_errors_total", "Requests answered with 4xx or 5xx", ["route", "kind"])


class RequestTelemetry:
    """Outermost middleware: request id and trace into the log; counters by route, not by path."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Take the rest of the chain, sync or async."""
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer the request and count it."""
        if self.is_async:
            return self._answer_async(request)
        started = self._begin(request)
        response = self.get_response(request)
        return self._end(request, response, started)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        started = self._begin(request)
        response = await self.get_response(request)  # type: ignore[misc] # the async chain
        return self._end(request, response, started)

    def _begin(self, request: HttpRequest) -> float:
        given = request.headers.get(HEADER, "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined] # read by views and problems
        traceparent = trace_context.parse(request.headers.get(trace_context.HEADER, ""))
        span = _span(request, traceparent)
        span.__enter__()
        request.span = span  # type: ignore[attr-defined] # ended below
        traceparent = span.traceparent or traceparent
        request.traceparent = traceparent  # type: ignore[attr-defined] # read by views
        structlog.contextvars.bind_contextvars(request_id=request_id)
        if traceparent:
            structlog.contextvars.bind_contextvars(trace_id=trace_context.trace_id(traceparent))
        # While every thread is busy a request waits for one, and its caller with it.
        scope: dict[str, float] = getattr(request, "scope", {})
        return scope.get(ARRIVED) or time.perf_counter()

    def _end(
        self, request: HttpRequest, response: HttpResponseBase, started: float
    ) -> HttpResponseBase:
        route = _route(request)
        method = request.method if request.method in METHODS else "OTHER"
        status = response.status_code
        REQUESTS.labels(method, route, str(status)).inc()
        LATENCY.labels(method, route).observe(time.perf_counter() - started)
        if status >= CLIENT_ERROR:
            ERRORS.labels(route, "5xx" if status >= SERVER_ERROR else "4xx").inc()
        response[HEADER] = request.request_id  # type: ignore[attr-defined]
        if tracing.is_on():
            _end_span(request, method=method, route=route, status=status)
        structlog.contextvars.unbind_contextvars("request_id", "trace_id")
        return response


def _span(request: HttpRequest, parent: str) -> tracing.Span:
    """Begin the span of a request; its name comes with its route, as the counters' label does."""
    if not tracing.is_on() or request.path_info in HEALTH_PATHS:
        return tracing.NOTHING
    words = {"request.id": request.request_id}  # type: ignore[attr-defined]
    return tracing.begin(UNROUTED, kind="server", parent=parent, words=words)


def _end_span(request: HttpRequest, *, method: str, route: str, status: int) -> None:
    """Say what came of a request; no address, which holds tokens of hooks and what is asked for."""
    span: tracing.Span = request.span  # type: ignore[attr-defined] # made in `_begin`
    words: dict[str, tracing.Value] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
    }
    span.note(words, name=f"{method} {route}")
    if status >= SERVER_ERROR:
        span.end({}, error=str(status))
    span.__exit__(None, None, None)


def _route(request: HttpRequest) -> str:
    """Return `/runs/{run_id}` for `/runs/0190…`."""
    match = request.resolver_match
    if match is None:
        return UNROUTED
    if match.app_names and match.app_names[0] == "admin":
        return "/admin"
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", match.route)


@csrf_exempt
@require_safe
def metrics(_request: HttpRequest) -> HttpResponse:
    """Expose web's metrics and the manager's last sample, from memory."""
    body = generate_latest(exposition.registry())
    return HttpResponse(body, content_type=CONTENT_TYPE_LATEST)
