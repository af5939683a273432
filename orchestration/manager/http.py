"""The manager's own small server: GET /health, /livez and /metrics."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

#: A client that says nothing for this long is hung up on, in seconds.
CLIENT_SECONDS = 5.0


class Server(ThreadingHTTPServer):
    """Answer from memory only: a dependency that hangs must not hang the question about it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        *,
        address: str,
        port: int,
        health: Callable[[], dict[str, Any]],
        registry: CollectorRegistry,
    ) -> None:
        self.health = health
        self.registry = registry
        super().__init__((address, port), Handler)

    @property
    def port(self) -> int:
        """Return the port that is listened on (of use when 0 was asked for)."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Serve in a thread of its own until `shutdown`."""
        threading.Thread(target=self.serve_forever, name="http", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up: the base class prints a traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Three pages, all read-only."""

    server: Server
    server_version = "manager"
    sys_version = ""
    timeout = CLIENT_SECONDS

    def do_GET(self) -> None:
        """Answer one of the pages."""
        path = self.path.partition("?")[0]
        if path == "/health":
            found = self.server.health()
            self._answer(200 if found["status"] == "healthy" else 503, json.dumps(found))
        elif path == "/livez":
            self._answer(200, json.dumps({"status": "alive"}))
        elif path == "/metrics":
            self._answer(
                200, generate_latest(self.server.registry).decode(), media=CONTENT_TYPE_LATEST
            )
        else:
            self._answer(404, json.dumps({"status": 404, "title": "Not found"}))

    def _answer(self, code: int, body: str, *, media: str = "application/json") -> None:
        content = body.encode()
        self.send_response(code)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: probes come every few seconds."""
