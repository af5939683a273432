"""Somebody else's server: takes webhooks over real HTTP, verifies and remembers them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook


@dataclass
class Call:
    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> dict[str, Any]:
        """Return the payload, or raise as the standard's own library does."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """Answer every POST with `status`, `headers` and `body`; each may be changed by a test."""

    def __init__(self, *, tls: Any = None) -> None:
        self.calls: list[Call] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.body = b""
        #: Cleared by a test: calls are taken and not answered until it is set again.
        self.answering = threading.Event()
        self.answering.set()
        self.inside = 0
        self.most_inside = 0
        self._lock = threading.Lock()
        world = self

        class Desk(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with world._lock:
                    world.inside += 1
                    world.most_inside = max(world.most_inside, world.inside)
                    world.calls.append(Call(self.path, dict(self.headers.items()), body))
                world.answering.wait(30)
                self.send_response(world.status)
                for name, value in world.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(world.body)))
                self.end_headers()
                self.wfile.write(world.body)
                with world._lock:
                    world.inside -= 1

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_words: object) -> None:
                """Callers may go away in the middle."""

        self._server = Quiet(("127.0.0.1", 0), Desk)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
