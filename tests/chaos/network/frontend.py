"""Read which statements a client sends to PostgreSQL, out of the bytes of its connection."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = 4


class Statements:
    """The frontend's side of protocol version 3, without TLS; one a connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False
        self._last = ""
        #: Prepared statements by their name.
        self._prepared: dict[bytes, str] = {}

    def feed(self, data: bytes) -> Iterator[tuple[str, str]]:
        """Yield the statements these bytes complete the order to execute, each behind the last."""
        self._buffer += data
        while True:
            # The first message has no type.
            head = 1 if self._started else 0
            if len(self._buffer) < head + LENGTH:
                return
            (length,) = struct.unpack_from("!i", self._buffer, head)
            if len(self._buffer) < head + length:
                return
            kind = self._buffer[:head]
            body = self._buffer[head + LENGTH : head + length]
            self._buffer = self._buffer[head + length :]
            self._started = True
            if kind == b"Q":
                yield self._next(body.rstrip(b"\0").decode())
            elif kind == b"P":
                name, text = body.split(b"\0")[:2]
                self._prepared[name] = text.decode()
            elif kind == b"B":
                name = body.split(b"\0")[1]
                yield self._next(self._prepared.get(name, ""))

    def _next(self, statement: str) -> tuple[str, str]:
        before, self._last = self._last, statement
        return before, statement
