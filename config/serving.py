"""How web answers a request: take its body within bounds, work in one thread, send in pieces.

Django's own handler crosses between event loop and threads at every middleware and signal, and
starts a thread for each request and a second task to hear of a client that leaves: with 50 requests
at once the crossings were the time, not the work. Here all that is done for a request, from its
signals to its middleware and view, is done in one of a fixed number of threads, and who leaves is
listened for only while a stream is sent. Health has threads of its own, so that it answers while
every other one hangs in a dependency that stands still.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from corsheaders.middleware import CorsMiddleware
from django import db
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import FileResponse, StreamingHttpResponse
from django.urls import set_script_prefix

from config import ending, problems, telemetry
from config.content_security import ContentSecurity
from config.response_headers import ResponseHeaders
from config.telemetry import HEALTH_PATHS
from engine import tracing

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

T = TypeVar("T")

#: More than this only wait for the connection pool and for the interpreter's lock.
REQUEST_THREADS = 16
HEALTH_THREADS = 4
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
        self._refuse = cast("Chain", telemetry.RequestTelemetry(headed))

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Load the chain for one thread, whatever Django asks for."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise ValueError(f"Only HTTP is served here, not {scope['type']}.")
        if tracing.is_on():
            ending.watch()
        if refusal := _head_refusal(scope):
            scope[REFUSAL] = refusal
        # No ThreadSensitiveContext: it would start a thread for every request.
        await self.handle(scope, _BoundedBody(scope, receive), send)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the body, do the work in a thread, send what comes of it."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        # Counted from here: not how slowly it was sent, but how long it waits for a thread.
        scope[telemetry.ARRIVED] = time.perf_counter()
        threads = self._health if scope["path"] in HEALTH_PATHS else self._threads
        response = await _in_thread(threads, self._respond, scope, body)
        if isinstance(response, StreamingHttpResponse):
            await self._stream(response, receive, send)
        else:
            await self.send_response(response, send)

    def _respond(self, scope: Scope, body: IO[bytes]) -> HttpResponseBase:
        """Do all that Django does for a request, in this thread; a stream is left open."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=type(self), scope=scope)
        try:
            response = self._answer(scope, body)
        finally:
            body.close()
            # Back to the pool, also when what follows is a stream.
            db.close_old_connections()
        response._handler_class = type(self)  # type: ignore[attr-defined] # noqa: SLF001 - Django's
        if not response.streaming:
            response.close()
        return response

    def _answer(self, scope: Scope, body: IO[bytes]) -> HttpResponseBase:
        request, unreadable = self.create_request(scope, body)
        if request is None:
            return cast("HttpResponseBase", unreadable)
        return (self._refuse if REFUSAL in scope else self.get_response)(request)

    async def _stream(self, response: StreamingHttpResponse, receive: Receive, send: Send) -> None:
        """Send until it ends or nobody listens any more."""
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        if not response.is_async:
            # Django would read a file into memory to its end before it sends the first byte.
            pieces = cast("Iterator[bytes]", response.streaming_content)
            response.streaming_content = self._one_by_one(pieces)
        sending = asyncio.create_task(self.send_response(response, send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            sent, _ = await asyncio.gather(sending, leaving, return_exceptions=True)
            await _in_thread(self._threads, response.close)
        if isinstance(sent, Exception):
            raise sent

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
        while (piece := await _in_thread(self._threads, next, pieces, None)) is not None:
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


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
    """Return what work comes to there; asgiref's way asks inspect about it at every call."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, context.run, work, *arguments)


def _refused(request: HttpRequest) -> HttpResponseBase:
    status, code, detail = _refusal(request) or (400, "request_invalid", "")
    return problems.answer(request, status=status, code=code, detail=detail)
