"""A log file that many processes append to, and that is rotated without losing a line.

A line is one `write` to a file opened for appending, so lines of several processes never mix, and
no lock is taken for one. Whoever finds the file full renames it under a lock that nobody waits for;
the others notice that the name leads elsewhere before their next line. A line that was on its way
lands in the renamed file. Rejected: `RotatingFileHandler` (several processes overwrite each other's
generations), concurrent-log-handler (a lock a line), copying and cutting off (loses what comes
between the two). `logrotate` may do it instead: `LOG_FILE_BYTES=0`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Its owner's, and to be read by a group that ships logs.
MODE = 0o640
#: How often a file that cannot be written is complained of, in seconds.
COMPLAIN_SECONDS = 60.0


class RotatedFile(logging.Handler):
    """Append lines to a file shared with other processes."""

    def __init__(self, filename: str, *, limit_bytes: int, generations: int) -> None:
        """Open nothing yet; `limit_bytes` 0 leaves rotation to others."""
        super().__init__()
        self.path = os.fspath(filename)
        self.limit_bytes = limit_bytes
        self.generations = generations
        self._descriptor = -1
        self._identity: tuple[int, int] = (0, 0)
        self._cut = False
        self._complained_at = -COMPLAIN_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a disk that is full costs the line, never the work."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            self._append(line)
        except OSError as exc:
            self._complain(exc)
        except Exception:  # noqa: BLE001 - as every handler: a line must not end its writer
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        with self.lock or contextlib.nullcontext():
            self._leave()
        super().close()

    def _append(self, line: bytes) -> None:
        size = self._current_size()
        if size is None:
            self._enter()
        elif self.limit_bytes and size and size + len(line) > self.limit_bytes:
            self._rotate(len(line))
        if self._cut:
            # The disk was full in the middle of a line: ours must not become its end.
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        self._cut = written < len(line)
        if self._cut:
            raise OSError(28, "the disk is full")

    def _current_size(self) -> int | None:
        """Return the size of the file if it is still the one that its name leads to."""
        if self._descriptor < 0:
            return None
        try:
            found = os.stat(self.path)  # noqa: PTH116 - once a line
        except FileNotFoundError:
            return None
        return found.st_size if (found.st_dev, found.st_ino) == self._identity else None

    def _enter(self) -> None:
        self._leave()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, MODE)
        found = os.fstat(self._descriptor)
        self._identity = (found.st_dev, found.st_ino)

    def _leave(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rotate(self, coming: int) -> None:
        with locked(self.path, wait=False) as mine:
            size = self._current_size()
            # Somebody else may have been first; a process that hangs must not hold us up.
            if mine and size is not None and size + coming > self.limit_bytes:
                shift(self.path, generations=self.generations)
        if self._current_size() is None:
            self._enter()

    def _complain(self, error: OSError) -> None:
        if time.monotonic() - self._complained_at < COMPLAIN_SECONDS:
            return
        self._complained_at = time.monotonic()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"cannot write {self.path}: {error.strerror}; lines go missing\n")


def shift(path: str, *, generations: int) -> None:
    """Rename the file to its first earlier generation, that to the second, and so on."""
    for number in range(generations, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}.{number - 1}", f"{path}.{number}")  # noqa: PTH105 - a str
    if generations:
        os.replace(path, f"{path}.1")  # noqa: PTH105 - same
    else:
        os.unlink(path)  # noqa: PTH108 - same


@contextlib.contextmanager
def locked(path: str | Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock under which the file is renamed; give whether it was to be had."""
    folder, name = os.path.split(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(os.path.join(folder, f".{name}.lock"), flags, MODE)  # noqa: PTH118 - str
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
