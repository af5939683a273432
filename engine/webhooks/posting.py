"""Post one letter by HTTP/1.1: to the address that was checked, within a time, once.

Nothing here follows a redirect, asks a proxy, repeats, or reads more of an answer than a bit.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import h11

from engine.values import storable
from engine.webhooks import addresses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from engine.webhooks.addresses import Network, Target

    #: Host and port → addresses, in the order in which to try them.
    Resolve = Callable[[str, int], Awaitable[list[str]]]

#: From looking the name up to the end of the answer's head, in seconds.
ANSWER_SECONDS = 15.0
#: For what is read of the body, after that.
BODY_SECONDS = 2.0
#: So much of a body is read, and shown of it.
BODY_BYTES, EXCERPT_CHARACTERS = 2048, 500
READ_BYTES = 4096
#: `100 Continue` and its like that are passed over.
MAX_INTERIM_ANSWERS = 5
#: Addresses of one name that are tried when the first does not answer.
MAX_ADDRESSES = 3
USER_AGENT = "AI-Business-Engine-Webhooks/1"
GONE = 410
#: What an error means, the first that fits.
FAILURES: tuple[tuple[type[Exception], str, str], ...] = (
    (TimeoutError, "timeout", f"no answer within {ANSWER_SECONDS:g} s"),
    (ssl.SSLError, "tls_failed", "the secure connection could not be made"),
    (socket.gaierror, "name_unresolved", "the name does not resolve"),
    (OSError, "connection_failed", "no connection could be made, or it was broken off"),
    (h11.ProtocolError, "answer_malformed", "the answer is not HTTP, or was broken off"),
)


@dataclass(frozen=True, slots=True)
class Letter:
    """What to post, where. The headers hold signatures, no secrets."""

    url: str
    body: bytes = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt. `error_code` is empty when the receiver has accepted it (2xx)."""

    error_code: str
    response_code: int | None = None
    #: What the receiver said, or why there was no answer: safe to show.
    excerpt: str = ""
    #: What `Retry-After` asked for, in seconds.
    retry_after: float | None = None
    duration_ms: int = 0


async def post(
    letter: Letter,
    *,
    allowed: Sequence[Network],
    resolve: Resolve | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Post a letter and return what came of it; raises nothing but cancellation.

    allowed: networks that may be called although they are private. resolve, tls: how names are
    looked up and certificates verified, for tests.
    """
    began = time.monotonic()
    try:
        code, text, response_code, retry_after = await _attempt(
            letter, allowed, resolve or look_up, tls or verifying()
        )
    except addresses.AddressRefusedError as exc:
        code, text, response_code, retry_after = "address_refused", str(exc), None, None
    except Exception as exc:  # noqa: BLE001 - whatever another system does must end nothing here
        code, text = _failure(exc)
        response_code, retry_after = None, None
    return Answer(
        error_code=code,
        response_code=response_code,
        excerpt=shown(text),
        retry_after=retry_after,
        duration_ms=int((time.monotonic() - began) * 1000),
    )


async def _attempt(
    letter: Letter, allowed: Sequence[Network], resolve: Resolve, tls: ssl.SSLContext
) -> tuple[str, str, int | None, float | None]:
    found = addresses.target(letter.url)
    async with asyncio.timeout(ANSWER_SECONDS):
        candidates = await _permitted(found, allowed, resolve)
        reader, writer = await _connect(found, candidates, tls)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            wire = h11.Connection(h11.CLIENT)
            await _send(writer, wire, found, letter)
            response = await _head(reader, wire)
        body = await _start_of_body(reader, wire)
    finally:
        writer.transport.abort()  # a graceful end of TLS would wait for the other side
    status = response.status_code
    retry_after = _seconds(dict(response.headers).get(b"retry-after", b""))
    text = body.decode("utf-8", "replace")
    ok = 200 <= status < 300  # noqa: PLR2004 - the class of success, RFC 9110
    redirect = 300 <= status < 400  # noqa: PLR2004
    code = "" if ok else "redirect_refused" if redirect else "http_status"
    return code, text, status, retry_after


async def _permitted(found: Target, allowed: Sequence[Network], resolve: Resolve) -> list[str]:
    """Return the addresses to connect to. One that is refused refuses the name."""
    number = addresses.literal(found.host)
    candidates = [str(number)] if number else await resolve(found.host, found.port)
    if not candidates:
        raise addresses.AddressRefusedError("resolves to no address")
    for address in candidates:
        addresses.check(found, address, allowed=allowed)
    return candidates[:MAX_ADDRESSES]


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a name, each once, as the system resolves it."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _connect(
    found: Target, candidates: Sequence[str], tls: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an address, never to the name: that could lead elsewhere by now.

    The certificate is still that of the name.
    """
    secure = found.scheme == "https"
    for number, address in enumerate(candidates, start=1):
        try:
            return await asyncio.open_connection(
                address,
                found.port,
                ssl=tls if secure else None,
                server_hostname=found.host if secure else None,
            )
        except ssl.SSLError:
            raise
        except OSError:
            if number == len(candidates):
                raise
    raise addresses.AddressRefusedError("resolves to no address")


async def _send(
    writer: asyncio.StreamWriter, wire: h11.Connection, found: Target, letter: Letter
) -> None:
    head = h11.Request(
        method="POST",
        target=found.path,
        headers=[
            ("Host", found.host_header),
            ("User-Agent", USER_AGENT),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(letter.body))),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *letter.headers,
        ],
    )
    for event in (head, h11.Data(data=letter.body), h11.EndOfMessage()):
        writer.write(wire.send(event) or b"")
    await writer.drain()


async def _head(reader: asyncio.StreamReader, wire: h11.Connection) -> h11.Response:
    interim = 0
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            return event
        else:
            interim += 1
            if not isinstance(event, h11.InformationalResponse) or interim > MAX_INTERIM_ANSWERS:
                raise h11.RemoteProtocolError("no answer")


async def _start_of_body(reader: asyncio.StreamReader, wire: h11.Connection) -> bytes:
    """Return the first bytes of the body: the answer stands already, so this may fail."""
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while len(body) < BODY_BYTES:
                event = wire.next_event()
                if event is h11.NEED_DATA:
                    wire.receive_data(await reader.read(READ_BYTES))
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    break
    except (TimeoutError, OSError, h11.ProtocolError):
        pass
    return body[:BODY_BYTES]


def _failure(error: Exception) -> tuple[str, str]:
    """Return a stable code and a text of our own: errors of libraries may hold anything."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate_invalid", error.verify_message
    for kind, code, text in FAILURES:
        if isinstance(error, kind):
            return code, text
    return "unexpected_error", type(error).__name__


def shown(text: str) -> str:
    """Return what of a foreign text may be stored and shown: printable, bounded."""
    plain = "".join(letter if letter.isprintable() else " " for letter in storable(text))
    return " ".join(plain.split())[:EXCERPT_CHARACTERS]


def _seconds(header: bytes) -> float | None:
    """Return what `Retry-After` says, as seconds from now; None for what is not understood."""
    text = header.decode("ascii", "replace").strip()
    try:
        if text.isdigit():
            return min(float(text), math.inf)
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return max(0.0, (at - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def verifying() -> ssl.SSLContext:
    """Return a context that verifies certificates by what the system trusts."""
    return ssl.create_default_context()
