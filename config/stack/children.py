"""One supervised process: its life, its output, and everything it started in turn.

Output goes through a file and not a pipe: a process that writes into the pipe of a killed `up`
would die in the middle of its drain, and one whose `up` waits for a paused terminal would stand
still.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from config.embedded import processes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

READ_BYTES = 65536
#: A line longer than this is shown in pieces; a child must not fill our memory.
LINE_BYTES = 16384
#: What has been shown is cut off the file when it has grown to this.
OUTPUT_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Service:
    """What to start: the name it is shown by, its command, its additions to the environment."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    #: How far it stands back behind the others when processor time is scarce, 0 to 19.
    niceness: int = 0


@dataclass(kw_only=True)
class Child:
    """A service and, while it runs, its process; leader of a session of its own."""

    service: Service
    output: Path
    restarts: int = 0
    due_at: float = 0.0
    started_at: float = 0.0
    identity: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _partial: bytes = b""
    _offset: int = 0

    @property
    def running(self) -> bool:
        """Tell whether a process exists that has not been buried."""
        return self._process is not None

    def spawn(self, *, keep_open: Sequence[int]) -> None:
        """Start the process."""
        with self.output.open("ab") as output:
            self._offset = output.tell()
            process = subprocess.Popen(
                self.service.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_spoken(), **self.service.environment},
                pass_fds=keep_open,
                # Ctrl-C in the terminal is ours to translate, and the group is ours to end.
                start_new_session=True,
                preexec_fn=processes.die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one thread
            )
        if self.service.niceness:
            processes.step_back(process.pid, niceness=self.service.niceness)
        self._process = process
        self.identity = {"name": self.service.name, **processes.identify(process.pid)}
        self.started_at = time.monotonic()

    def ended(self) -> bool:
        """Tell whether the process has ended."""
        return self._process is not None and self._process.poll() is not None

    def ask_to_stop(self) -> None:
        """Ask the process itself, not its children: it knows how to take them along."""
        if self._process is not None and not self.ended():
            self._process.terminate()

    def kill(self) -> None:
        """End the process and all of its session's first group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def bury(self) -> str:
        """Clear up after the end, children it left included; return how it ended."""
        # A pool child without its parent would work on without anybody knowing.
        self.kill()
        process, self._process = self._process, None
        return _how(process.returncode) if process else "never started"

    def read_lines(self) -> list[str]:
        """Return the whole lines written since the last call."""
        try:
            with self.output.open("rb") as output:
                output.seek(self._offset)
                read = output.read(READ_BYTES)
        except FileNotFoundError:  # somebody tidied up; the next start makes it again
            return []
        self._offset += len(read)
        if not read and self._offset > OUTPUT_BYTES:
            # Everything is shown; the process appends, so it goes on at the new end.
            os.truncate(self.output, 0)
            self._offset = 0
        *lines, self._partial = (self._partial + read).split(b"\n")
        if len(self._partial) > LINE_BYTES:
            lines, self._partial = [*lines, self._partial], b""
        return [_text(line) for line in lines]

    def last_words(self) -> list[str]:
        """Return all that is left, the line that was never finished included."""
        lines: list[str] = []
        while more := self.read_lines():
            lines += more
        rest, self._partial = self._partial, b""
        return [*lines, _text(rest)] if rest else lines


def _spoken() -> dict[str, str]:
    """Return what makes a process speak to people, at once: `up` shows them what it says."""
    return {"PYTHONUNBUFFERED": "1", "LOG_JSON": os.environ.get("LOG_JSON") or "0"}


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
