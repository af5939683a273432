"""A TCP proxy that does to a connection what networks do: delay, forget, reset, refuse, cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

from tests.chaos.network.frontend import Statements

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 65536
#: The server's word that a statement, and so a COMMIT, is done.
READY_FOR_QUERY = b"Z\x00\x00\x00\x05"


class Link:
    """One connection through the proxy."""

    def __init__(
        self,
        up: asyncio.StreamWriter,
        down: asyncio.StreamWriter,
        statements: Statements | None,
    ) -> None:
        self.up, self.down = up, down
        #: Bytes of both directions vanish from now on, the ends hear nothing of it: half-open.
        self.forgotten = False
        #: The answer that comes now is lost, and the connection with it.
        self.cutting = False
        #: What a client of PostgreSQL orders, read as far as a cut may be wanted.
        self.statements = statements

    def reset(self) -> None:
        """End it with RST towards the client; the server sees it closed."""
        raw = self.down.get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.down.transport.abort()
        self.up.transport.abort()


class Proxy:
    """Listen on a port of 127.0.0.1 and pass everything on to `target`: (host, port) or a path.

    The faults are switched from the test's thread; the proxy runs in one of its own.
    """

    def __init__(self, target: tuple[str, int] | str, *, postgresql: bool = False) -> None:
        self.target = target
        self._postgresql = postgresql
        #: Seconds each portion is delayed, in each direction.
        self.delay = 0.0
        self.connections = 0
        self.cuts = 0
        self._swallow_new = False
        self._cut: Callable[[str, str], bool] | None = None
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.port = 0
        self._call(self._listen())

    # --- faults -----------------------------------------------------------------------------
    def forget(self) -> None:
        """Let every connection there is now go dead for good, as by a firewall's restart."""
        self._soon(self._forget)

    def blackhole(self) -> None:
        """Swallow everything, of old connections and of new ones, which are accepted."""
        self._swallow_new = True
        self.forget()

    def refuse(self) -> None:
        """Reset every connection and refuse new ones."""
        self._call(self._close_server())
        self.reset()

    def reset(self) -> None:
        """Reset every connection there is now."""
        self._soon(lambda: [link.reset() for link in list(self._links)])

    def cut_once(self, matches: Callable[[str, str], bool]) -> None:
        """Pass the next statement that matches on, and reset its connection before its answer.

        matches: told the statement before it on its connection, and the statement itself.
        """
        self._cut = matches

    def heal(self) -> None:
        """Let new connections pass again. What was forgotten stays dead."""
        self.delay = 0.0
        self._swallow_new = False
        if self._server is None:
            self._call(self._listen())

    def close(self) -> None:
        """End it all."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # --- the loop's own ---------------------------------------------------------------------
    def _call(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _soon(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        self._call(act())

    def _forget(self) -> None:
        for link in self._links:
            link.forgotten = True

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        await self._close_server()
        for link in list(self._links):
            link.reset()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if isinstance(self.target, str):
            up_reader, up_writer = await asyncio.open_unix_connection(self.target)
        else:
            up_reader, up_writer = await asyncio.open_connection(*self.target)
        link = Link(up_writer, writer, Statements() if self._postgresql else None)
        link.forgotten = self._swallow_new
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, reader, up_writer, upwards=True),
                self._pump(link, up_reader, writer, upwards=False),
            )
        except (OSError, asyncio.CancelledError):
            link.reset()
        finally:
            self._links.discard(link)

    async def _pump(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        upwards: bool,
    ) -> None:
        while data := await reader.read(CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            if link.forgotten:
                continue
            if upwards and link.statements is not None:
                self._look_for_cut(link, data)
            elif link.cutting:
                if READY_FOR_QUERY in data:
                    link.reset()
                    return
                continue
            writer.write(data)
            await writer.drain()
        if link.forgotten:
            # Not even the end gets through. The other end goes on believing in its connection.
            await asyncio.Event().wait()
        writer.close()

    def _look_for_cut(self, link: Link, data: bytes) -> None:
        assert link.statements is not None
        for before, statement in link.statements.feed(data):
            if self._cut is not None and self._cut(before, statement):
                self._cut = None
                self.cuts += 1
                link.cutting = True
