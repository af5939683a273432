"""The three locks around one embedded server; the kernel drops each when its holder dies.

`<name>.gate`    exclusive, short: whoever starts, begins to use, or stops the server
`<name>.users`   shared, long: everybody who uses the server
`<name>.keeper`  exclusive, long: the server's keeper
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Locks:
    """Point at the lock files of one server."""

    folder: Path
    name: str

    @contextmanager
    def gate(self, *, wait: bool = True) -> Iterator[bool]:
        """Pass the gate; without `wait` yield False when somebody is in it."""
        with self._opened("gate") as gate:
            yield _lock(gate, exclusive=True, wait=wait)

    def begin_use(self) -> int:
        """Return a descriptor that keeps the server up until it is closed; call it in the gate."""
        descriptor = self._open("users")
        _lock(descriptor, exclusive=False, wait=True)
        return descriptor

    def used(self) -> bool:
        """Tell whether anybody uses the server; call it inside the gate."""
        with self._opened("users") as users:
            return not _lock(users, exclusive=True, wait=False)

    def in_use(self) -> bool:
        """Tell whether anybody uses the server, or is about to."""
        with self.gate(wait=False) as entered:
            return not entered or self.used()

    def become_keeper(self) -> bool:
        """Become the keeper for the rest of this process's life, unless there is one."""
        return _lock(self._open("keeper"), exclusive=True, wait=False)

    def kept(self) -> bool:
        """Tell whether a keeper lives; call it inside the gate."""
        with self._opened("keeper") as keeper:
            return not _lock(keeper, exclusive=True, wait=False)

    def _open(self, kind: str) -> int:
        return os.open(
            self.folder / f"{self.name}.{kind}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )

    @contextmanager
    def _opened(self, kind: str) -> Iterator[int]:
        descriptor = self._open(kind)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _lock(descriptor: int, *, exclusive: bool, wait: bool) -> bool:
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
