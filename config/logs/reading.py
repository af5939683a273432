"""Read the log again: over its rotated generations, filtered, and on while it is written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from config.logs import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Level names as the standard library orders them.
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
#: How often a log that is followed is looked at, in seconds.
LOOK_SECONDS = 0.25
READ_BYTES = 1024 * 1024
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"(\d{1,6})([smhd])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which lines are wanted; what is left empty asks for nothing.

    run_id, text: anywhere in the line. level: this one and worse. process: what wrote it; `worker`
    is all of them.
    """

    run_id: str = ""
    text: str = ""
    level: str = ""
    step: str = ""
    correlation_id: str = ""
    department: str = ""
    process: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def takes_raw(self, raw: bytes) -> bool:
        """Tell whether a line can be meant, before it is parsed."""
        # As the lines spell it: what is not ASCII as \u00fc.
        wanted = (json.dumps(word)[1:-1].encode() for word in (self.run_id, self.correlation_id))
        return all(word in raw for word in wanted) and (not self.text or self._has_text(raw))

    def _has_text(self, raw: bytes) -> bool:
        """Tell whether the text is in the line, in any case: as it stands there, or as it says."""
        wanted = self.text.casefold()
        if wanted in raw.decode(errors="replace").casefold():
            return True
        line = parsed(raw) if b"\\" in raw else None
        return any(wanted in str(value).casefold() for value in (line or {}).values())

    def takes(self, line: dict[str, Any]) -> bool:
        """Tell whether a line is wanted."""
        return (
            _rank(line.get("level")) >= (_rank(self.level) if self.level else 0)
            and self.step in ("", line.get("step"), str(line.get("step_id", "")))
            and self.correlation_id in ("", line.get("correlation_id"))
            and self.department in ("", line.get("department"))
            and self.process in ("", *_processes(line))
            and self._is_in_time(line)
        )

    def _is_in_time(self, line: dict[str, Any]) -> bool:
        if self.since is None and self.until is None:
            return True
        at = _moment(line.get("timestamp"))
        return at is not None and (self.since or at) <= at <= (self.until or at)


def moment(text: str, *, now: datetime) -> datetime:
    """Return the moment `30m`, `2h`, `1d` ago, or the one an ISO 8601 time names (UTC unless said).

    Raises ValueError for anything else.
    """
    if found := _AGO.fullmatch(text):
        try:
            return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            raise ValueError(text) from None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class Reader:
    """Read a log: what is there, then what comes."""

    def __init__(self, path: Path, wanted: Filter, *, is_json: bool = True) -> None:
        """Open nothing yet; `is_json` False for a log whose lines are plain text."""
        self.path = path
        self.wanted = wanted
        self.is_json = is_json
        self._stream: BinaryIO | None = None
        self._rest = b""

    def last(self, *, limit: int) -> list[bytes]:
        """Return the last `limit` lines that are wanted, oldest first; 0 for all of them."""
        found: deque[bytes] = deque(maxlen=limit or None)
        for stream in generations(self.path):
            self._turn_to(stream)
            found.extend(self._read())
        return list(found)

    def follow(self) -> Iterator[bytes]:
        """Yield what is wanted of what comes, over every rotation, until nobody asks any more."""
        while True:
            yield from self._read()
            since = _identity(self._stream) if self._stream is not None else None
            if _identity_of(self.path) not in {since, None}:
                for stream in generations(self.path, since=since):
                    # The one we read may have got more since we looked; then it was renamed.
                    if since is None or _identity(stream) != since:
                        yield from self._read()
                        self._turn_to(stream)
                    else:
                        stream.close()
                continue
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _turn_to(self, stream: BinaryIO) -> None:
        self.close()
        self._stream, self._rest = stream, b""

    def _read(self) -> Iterator[bytes]:
        """Yield the whole lines up to the end of the file that are wanted."""
        while self._stream is not None and (read := self._stream.read(READ_BYTES)):
            *lines, self._rest = (self._rest + read).split(b"\n")
            for raw in lines:
                if self._is_wanted(raw):
                    yield raw

    def _is_wanted(self, raw: bytes) -> bool:
        if not self.wanted.takes_raw(raw):
            return False
        if not self.is_json:
            return True
        line = parsed(raw)
        return line is not None and self.wanted.takes(line)


def generations(path: Path, *, since: tuple[int, int] | None = None) -> list[BinaryIO]:
    """Open the log and what it was renamed from, oldest first; `since` (device, inode) and later.

    The caller closes them. Nobody renames meanwhile. Raises PermissionError where one may not be
    read.
    """
    found: list[BinaryIO] = []
    if not path.parent.is_dir():
        return found
    with contextlib.ExitStack() as stack:
        # Whoever may read and not write has no lock: a rotation may show him a line twice.
        with contextlib.suppress(OSError):
            stack.enter_context(files.locked(path, wait=True))
        try:
            for name in (path, *_numbered(path)):
                stream = _open(name)
                if stream is None:
                    continue
                found.append(stream)
                if since is not None and _identity(stream) == since:
                    break
        except OSError:
            for stream in found:
                stream.close()
            raise
    found.reverse()
    return found


def parsed(raw: bytes) -> dict[str, Any] | None:
    """Return a line as what it says; None for one that a full disk cut off."""
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _numbered(path: Path) -> list[Path]:
    """Return the earlier generations, the newest first."""
    found = {
        int(suffix): one
        for one in path.parent.glob(f"{path.name}.*")
        if (suffix := one.name.removeprefix(f"{path.name}.")).isdigit()
    }
    return [found[number] for number in sorted(found)]


def _identity(stream: BinaryIO) -> tuple[int, int]:
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _processes(line: dict[str, Any]) -> tuple[str, str]:
    """Return who wrote a line, and without its number: worker1, worker."""
    name = str(line.get("process", ""))
    return name, name.rstrip("0123456789")


def _rank(level: object) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _moment(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
