"""The first words of a request, bounded: `uvicorn --http config.wire:BoundedProtocol`.

uvicorn keeps the head of a request until it is complete, however long it is, and asks nobody. Here
a connection that sends more than any head may have is answered and closed. What the head may hold
exactly is for `config.serving` to say, which answers in the API's own words.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

#: More than this of an unfinished head is not kept, in bytes.
HEAD_BYTES = 64 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with an end to what it keeps of a head."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._unfinished = 0
        self._in_head = True
        #: A head or a message has ended since this was set to False.
        self._moved = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a head."""
        super().connection_made(transport)
        self._unfinished, self._in_head = 0, True

    def data_received(self, data: bytes) -> None:
        """Hand the bytes on; end the connection when its head will not end."""
        self._moved = False
        super().data_received(data)
        if self._moved or not self._in_head:
            # What is left of these bytes is the beginning of a head, or nothing at all.
            self._unfinished = 0
            return
        self._unfinished += len(data)
        if self._unfinished > HEAD_BYTES and not self.transport.is_closing():
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large")

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """End it."""
        self._moved, self._in_head = True, False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for the next head."""
        super().on_message_complete()
        self._moved = self._in_head = True

    def send_400_response(self, msg: str) -> None:
        """Say as a problem that what was sent is no HTTP."""
        self._end(HTTPStatus.BAD_REQUEST, "request_invalid", msg)

    def _end(self, status: HTTPStatus, code: str, detail: str = "") -> None:
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "code": code,
            "detail": detail or f"The head of the request is larger than {HEAD_BYTES} bytes.",
            "errors": [],
            "request_id": "",
        }
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
