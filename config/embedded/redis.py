"""Run one embedded Redis: 127.0.0.1 with a random password, append-only file, never evicting."""

import signal
import socket
import time
from pathlib import Path
from typing import Any

from config import local_secrets
from config.embedded import binaries, layout, processes
from config.embedded.errors import EmbeddedError

HOST = "127.0.0.1"
DEFAULT_PORT = 6379
PORTS_TRIED = 50
ANSWER_SECONDS = 1.0
PONG = b"+OK\r\n+PONG\r\n"

CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir {folder}
logfile {log}
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory {memory}
maxmemory-policy noeviction
tcp-keepalive 60
timeout 0
client-output-buffer-limit pubsub 256mb 64mb 60
"""
MEMORY = "1gb"
UNREADABLE = ("Bad file format", "Unexpected end of file", "format version")


class Redis:
    """Know how Redis is prepared, started, found ready and stopped."""

    name = "redis"
    title = "Redis"
    log_follows_name = True
    stop_signal = signal.SIGTERM

    def __init__(
        self, rooms: layout.Layout, *, port: int | None = None, durable: bool = True
    ) -> None:
        """Find the binary; `port=None` takes any free one, nothing is started yet."""
        self.rooms = rooms
        self.durable = durable
        self.wanted_port = port
        self.programs = binaries.redis()
        self.log = rooms.log_dir / "redis.log"
        self.port = 0

    @property
    def version(self) -> str:
        """Return the server's version."""
        return self.programs.version

    @property
    def url(self) -> str:
        """Return the URL clients connect by."""
        return url_of(self.rooms, port=self.port)

    @property
    def owner_url(self) -> str:
        """Return the same URL: Redis has one user here."""
        return self.url

    def settle(self) -> None:
        """Arrange nothing."""

    def prepare(self) -> None:
        """Choose the port and write the configuration, which holds the password."""
        self.port = self._choose_port()
        layout.write_private(self.rooms.redis_dir / "port", f"{self.port}\n")
        self._set_aside_broken_log()
        text = CONFIGURATION.format(
            host=HOST,
            port=self.port,
            password=password(self.rooms),
            folder=_quoted(self.rooms.redis_dir),
            log=_quoted(self.log),
            memory=MEMORY,
        )
        if not self.durable:
            text = text.replace("appendonly yes", "appendonly no")
        layout.write_private(self.rooms.redis_dir / "redis.conf", text)

    def command(self) -> tuple[list[str], dict[str, Any]]:
        """Return the command line of the server and the options to start it with."""
        layout.rotate_log(self.log)
        options = {"cwd": "/", "preexec_fn": processes.die_with_parent(self.stop_signal)}
        return [str(self.programs.server), str(self.rooms.redis_dir / "redis.conf")], options

    def ready(self, pid: int) -> bool:  # noqa: ARG002 - both servers are asked alike
        """Tell whether the server answers, has loaded its data, and is ours."""
        return ping(port=self.port, secret=password(self.rooms))

    def _choose_port(self) -> int:
        if self.port:
            # Started again: whoever uses it knows this port and no other.
            return self.port
        if self.wanted_port is None:
            return _free_port()
        near = range(self.wanted_port, min(self.wanted_port + PORTS_TRIED, 65536))
        # Twice the same port if it can be had: other shells may know it.
        remembered = remembered_port(self.rooms)
        for port in [port for port in near if port == remembered] + list(near):
            if _is_free(port):
                return port
        message = f"no free port for Redis from {self.wanted_port} on: set PORTS=+N or REDIS_URL"
        raise EmbeddedError(message)

    def _set_aside_broken_log(self) -> None:
        """Move a file aside that Redis refused: PostgreSQL is the truth, Redis may start empty."""
        mark = self.rooms.redis_dir / "refused"
        if mark.exists():
            mark.unlink()
            for name in ("appendonly.aof", "appendonlydir"):
                old = self.rooms.redis_dir / name
                if old.exists():
                    old.rename(old.with_name(f"{name}.refused-{int(time.time())}"))

    def forget_broken_log(self, said: str) -> bool:
        """Note that Redis could not read its own file; tell whether starting again makes sense."""
        unreadable = any(sign in said for sign in UNREADABLE)
        mark = self.rooms.redis_dir / "refused"
        if unreadable:
            mark.touch()
        return unreadable


def password(rooms: layout.Layout) -> str:
    """Return the password, made on first use."""
    return local_secrets.kept_secret(rooms.redis_dir / "password")


def remembered_port(rooms: layout.Layout) -> int | None:
    """Return the port the last server of this folder listened on."""
    try:
        return int((rooms.redis_dir / "port").read_text())
    except (OSError, ValueError):
        return None


def url_of(rooms: layout.Layout, *, port: int) -> str:
    """Return the URL of the server at a port of this machine."""
    return f"redis://:{password(rooms)}@{HOST}:{port}/0"


def ping(*, port: int, secret: str) -> bool:
    """Tell whether a Redis with this password answers; spoken by hand: the client comes later."""
    try:
        with socket.create_connection((HOST, port), timeout=ANSWER_SECONDS) as link:
            link.sendall(f"AUTH {secret}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < len(PONG.splitlines()) and (part := link.recv(1024)):
                answer += part
    except OSError:
        return False
    return answer == PONG


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind((HOST, 0))
        return int(tried.getsockname()[1])


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
