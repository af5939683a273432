"""Keep one embedded server alive for as long as anybody uses it.

A keeper is a small process of its own, parent of the server. It starts the server, restarts it when
it dies, and stops it when the last user is gone. A user is whoever holds the shared lock on
`<name>.users`; the kernel drops it when a process dies, however it dies, so nothing is left over.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from config.embedded import layout, locks, postgres, processes, redis, wakeup
from config.embedded.errors import EmbeddedError

START_SECONDS = 120
STOP_SECONDS = 30
POLL_SECONDS = 0.2
READY_POLL_SECONDS = 0.01
#: How often the size of a log is looked at.
LOG_LOOK_SECONDS = 5.0
# Commands often come in rows; the next one finds the servers warm.
LINGER_SECONDS = 2.0
STABLE_SECONDS = 30
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
FIRST_RESTART_SECONDS = 0.1
LONGEST_RESTART_SECONDS = 5.0


class Server(Protocol):
    """What a keeper must know of a server."""

    name: str
    title: str
    log: Path
    #: Whether it opens its log by name for each line, so that it can be renamed meanwhile.
    log_follows_name: bool
    stop_signal: signal.Signals

    @property
    def version(self) -> str:
        """Return the server's version."""

    @property
    def url(self) -> str:
        """Return the URL clients connect by."""

    @property
    def owner_url(self) -> str:
        """Return the URL of whoever may change what the server holds in kind, not in content."""

    def prepare(self) -> None:
        """Make ready what the server needs before it starts."""

    def settle(self) -> None:
        """Arrange what can be arranged only once the server accepts work."""

    def command(self) -> tuple[list[str], dict[str, Any]]:
        """Return the command line and the options to start it with."""

    def ready(self, pid: int) -> bool:
        """Tell whether the server accepts work."""


class Keeper:
    """Own one server process."""

    def __init__(self, server: Server, rooms: layout.Layout) -> None:
        """Take note; nothing is started yet."""
        self.server = server
        self.record = rooms.run_dir / f"{server.name}.json"
        self.locks = locks.Locks(folder=rooms.run_dir, name=server.name)
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.restart_delay = FIRST_RESTART_SECONDS
        self.told_to_end = False
        self.linger_seconds = LINGER_SECONDS

    def start(self) -> None:
        """Start the server and wait until it accepts work."""
        self._end_orphan()
        self.server.prepare()
        command, options = self.server.command()
        offset = _size(self.server.log)
        with self.server.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
            )
        self.started_at = time.monotonic()
        self._write_record(ready=False)
        while not self.server.ready(self.process.pid):
            if self.process.poll() is not None:
                raise EmbeddedError(self._reason(offset))
            if time.monotonic() - self.started_at > START_SECONDS:
                self.stop()
                raise EmbeddedError(
                    f"{self.server.title} is not ready after {START_SECONDS} s "
                    f"(log: {self.server.log})"
                )
            time.sleep(READY_POLL_SECONDS)
        self.server.settle()
        self._write_record(ready=True)

    def stop(self) -> None:
        """Stop the server cleanly; forget it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(self.server.stop_signal)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.record.unlink(missing_ok=True)

    def keep(self) -> None:
        """Watch until nobody uses the server, or until told to end."""
        wake = wakeup.wake_on(SIGNALS, self._note_signal)
        unused_since: float | None = None
        looked_at = time.monotonic()
        while not self.told_to_end:
            select.select([wake], [], [], POLL_SECONDS)
            wakeup.drain(wake)
            if self.process is not None and self.process.poll() is not None:
                self._restart()
            if self.server.log_follows_name and time.monotonic() - looked_at > LOG_LOOK_SECONDS:
                looked_at = time.monotonic()
                layout.rotate_log(self.server.log)
            if self.locks.in_use():
                unused_since = None
                continue
            unused_since = unused_since or time.monotonic()
            if time.monotonic() - unused_since < self.linger_seconds:
                continue
            # Under the gate nobody can begin to use the server while it is being stopped.
            with self.locks.gate(wait=False) as entered:
                if entered and not self.locks.used():
                    self.stop()
                    return
        self.stop()

    def _note_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGUSR1:
            self.linger_seconds = 0.0
        elif number != signal.SIGCHLD:
            self.told_to_end = True

    def _restart(self) -> None:
        if time.monotonic() - self.started_at > STABLE_SECONDS:
            self.restart_delay = FIRST_RESTART_SECONDS
        self._write_record(ready=False)
        time.sleep(self.restart_delay)
        self.restart_delay = min(self.restart_delay * 2, LONGEST_RESTART_SECONDS)
        try:
            self.start()
        except EmbeddedError as error:
            sys.stderr.write(f"{error}\n")

    def _end_orphan(self) -> None:
        """Stop the server an earlier keeper left when it was killed."""
        try:
            known = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return
        if (orphan := processes.find(known.get("server"))) and (
            not self.process or orphan.pid != self.process.pid
        ):
            processes.end(orphan, first=self.server.stop_signal, grace_seconds=STOP_SECONDS)

    def _write_record(self, *, ready: bool) -> None:
        server = (
            self.process and self.process.poll() is None and processes.identify(self.process.pid)
        )
        record = {
            "ready": ready,
            "url": self.server.url,
            "owner_url": self.server.owner_url,
            "version": self.server.version,
            "keeper": processes.identify(os.getpid()),
            "server": server or None,
        }
        layout.write_private(self.record, json.dumps(record))

    def _reason(self, offset: int) -> str:
        """Return the line of the log that says why the server ended."""
        try:
            with self.server.log.open("rb") as log:
                log.seek(offset)
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            lines = []
        telling = [
            line for line in lines if "FATAL" in line or "PANIC" in line or " # " in line
        ] or lines
        said = telling[-1].strip() if telling else "it said nothing"
        if any("No space left" in line for line in lines):
            said = "the disk is full"
        return f"{self.server.title} did not start: {said} (log: {self.server.log})"


def main() -> int:
    """Keep the server named on the command line; report on standard output when it is ready."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["postgres", "redis"])
    parser.add_argument("--var-dir", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--careless", action="store_true")
    options = parser.parse_args()
    rooms = layout.Layout(var_dir=options.var_dir)
    if not locks.Locks(folder=rooms.run_dir, name=options.name).become_keeper():
        return _report("error another keeper is already there")
    try:
        server: Server
        if options.name == "postgres":
            server = postgres.Postgres(rooms, durable=not options.careless)
        else:
            server = redis.Redis(rooms, port=options.port, durable=not options.careless)
        keeper = Keeper(server, rooms)
        try:
            keeper.start()
        except EmbeddedError as error:
            if not isinstance(server, redis.Redis) or not server.forget_broken_log(str(error)):
                raise
            keeper.start()
    except EmbeddedError as error:
        return _report(f"error {error}")
    _report("ready")
    keeper.keep()
    return 0


def _report(line: str) -> int:
    """Tell the process that started us; it may be gone already."""
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())
    # The reader waits for the end of the stream; from here on nobody reads.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return 1 if line.startswith("error") else 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
