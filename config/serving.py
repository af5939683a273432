"""How web answers a request: take its body within bounds, work in one thread, send in pieces.

Django's own handler crosses between event loop and threads at every middleware and starts a thread
for each request: with 50 requests at once the crossings were the time, not the work. Here the whole
chain runs in one of a fixed number of threads. Health has threads of its own, so that it answers
while every other one hangs in a dependency that stands still.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from corsheaders.middleware import CorsMiddleware
from django import db
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import StreamingHttpResponse

from config import ending, problems
from config.content_security import ContentSecurity
from config.response_headers import ResponseHeaders
from config.telemetry import RequestTelemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    Scope = dict[str, Any]
    Message = Mapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Chain = Callable[[HttpRequest], HttpResponseBase]
    Refusal = tuple[int, str, str]

#: More than this only wait for the connection pool and for the interpreter's lock.
REQUEST_THREADS = 16
HEALTH_THREADS = 4
#: Answered without the database; these never queue behind what waits for it.
HEALTH_PATHS = frozenset({"/livez", "/readyz", "/health", "/health/manager", "/metrics"})
#: What a head may have, in bytes: its path with the query, and all of its fields.
MAX_TARGET_BYTES = 8 * 1024
MAX_FIELDS_BYTES = 32 * 1024
MAX_FIELDS = 100
#: Key of the request's scope: why it is refused unread, as a problem's status, code and detail.
REFUSAL = "refusal"
#: How long a client of a stream may take nothing at all, in seconds. It goes on by its last event
#: id, at whatever it can take.
STALLED_SECONDS = 30.0


class Handler(ASGIHandler):
    """Django's ASGI handler with a bounded body, bounded threads and one crossing a request."""

    def __init__(self) -> None:
        """Load the middleware; threads start with the first requests."""
        super().__init__()
        self._threads = ThreadPoolExecutor(REQUEST_THREADS, thread_name_prefix="request")
        self._health = ThreadPoolExecutor(HEALTH_THREADS, thread_name_prefix="health")
        # What every answer carries; nothing that looks at the request any further.
        headed = ResponseHeaders(cast("Chain", ContentSecurity(CorsMiddleware(_refused))))
        self._refuse = cast("Chain", RequestTelemetry(headed))

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Load the chain for one thread, whatever Django asks for."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise ValueError(f"Only HTTP is served here, not {scope['type']}.")
        if refusal := _head_refusal(scope):
            scope[REFUSAL] = refusal
        # No ThreadSensitiveContext: it would start a thread for every request.
        await self.handle(scope, _BoundedBody(scope, receive), send)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Run middleware and view in one thread."""
        chain = self._refuse if _refusal(request) else self.get_response
        threads = self._health if request.path_info in HEALTH_PATHS else self._threads
        answer = sync_to_async(_answered, thread_sensitive=False, executor=threads)
        response: HttpResponseBase = await answer(chain, request)
        if isinstance(response, StreamingHttpResponse) and not response.is_async:
            # Django would read a file into memory to its end before it sends the first byte.
            pieces = cast("Iterator[bytes]", response.streaming_content)
            response.streaming_content = self._one_by_one(pieces)
        return response

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        """Send; who takes nothing of a stream for too long is let go."""
        if not (isinstance(response, StreamingHttpResponse) and response.is_async):
            await super().send_response(response, send)
            return
        ending.watch()

        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(STALLED_SECONDS):
                await send(message)

        try:
            await super().send_response(response, send_soon)
        except TimeoutError:
            _hang_up(send)
            await asyncio.sleep(0)  # uvicorn hears of it

    async def _one_by_one(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        following = sync_to_async(_following, thread_sensitive=False, executor=self._threads)
        while (piece := await following(pieces)) is not None:
            yield piece


class _BoundedBody:
    """Hand the body on up to its limit; what comes after that is read and thrown away."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._headers = dict(scope["headers"])
        self._limit = _limit(self._headers.get(b"content-type", b""))
        self._read = 0
        self._ended = False

    async def __call__(self) -> Message:
        """Return the next message; an empty last one in place of what would be too much."""
        if self._ended:
            message = await self._receive()
            while message["type"] != "http.disconnect":
                message = await self._receive()
            return message
        if REFUSAL in self._scope:
            return self._end()
        announced = self._headers.get(b"content-length", b"0")
        # Refused before it is sent: curl and browsers wait for a word when a body is large.
        if announced.isdigit() and int(announced[:20]) > self._limit:
            return self._stop()
        message = await self._receive()
        self._read += len(message.get("body", b""))
        return self._stop() if self._read > self._limit else message

    def _stop(self) -> Message:
        hint = "the most a document may have; send files as multipart/form-data"
        if self._limit != settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            hint = "the most a form may have with its files (MAX_ARTIFACT_BYTES)"
        detail = f"The body is larger than {self._limit} bytes, {hint}."
        self._scope[REFUSAL] = (413, "body_too_large", detail)
        return self._end()

    def _end(self) -> Message:
        self._ended = True
        return {"type": "http.request", "body": b"", "more_body": False}


def _limit(content_type: bytes) -> int:
    """Return how many bytes a body may have: a form holds files, anything else is a document."""
    document: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if content_type.lower().startswith(b"multipart/form-data"):
        return document + int(settings.MAX_ARTIFACT_BYTES)
    return document


def _hang_up(send: Send) -> None:
    """Drop the connection with all that waits to be sent: closed politely, it would wait for ever.

    ASGI has no word for that; uvicorn's `send` belongs to what holds the connection.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()


def _following(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _head_refusal(scope: Scope) -> Refusal | None:
    """Return why the head of a request is refused: no address or field needs as much."""
    target = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
    if target > MAX_TARGET_BYTES:
        detail = f"Path and query are longer than {MAX_TARGET_BYTES} bytes."
        return 414, "target_too_long", detail
    fields = scope["headers"]
    if len(fields) > MAX_FIELDS or sum(len(n) + len(v) for n, v in fields) > MAX_FIELDS_BYTES:
        detail = f"There are more than {MAX_FIELDS} header fields, or {MAX_FIELDS_BYTES} bytes."
        return 431, "headers_too_large", detail
    return None


def _refusal(request: HttpRequest) -> Refusal | None:
    scope: Scope = request.scope  # type: ignore[attr-defined] # of Django's ASGIRequest
    return scope.get(REFUSAL)


def _answered(chain: Chain, request: HttpRequest) -> HttpResponseBase:
    try:
        return chain(request)
    finally:
        # Back to the pool: Django's own cleaning runs in another thread and cannot see them.
        db.close_old_connections()


def _refused(request: HttpRequest) -> HttpResponseBase:
    status, code, detail = _refusal(request) or (400, "request_invalid", "")
    return problems.answer(request, status=status, code=code, detail=detail)
