"""A worker's `/metrics`: a small process beside the worker that adds up its children's files.

    python -m orchestration.exporter FOLDER PARENT ADDRESS PORT

Each child counts in files of its own (prometheus_client's multiprocess mode), which outlive it. A
process and not a thread, because the worker's parent forks; beside its event loop, because that
stands still while Redis is away. It imports no Django: 25 MB. It ends with its parent.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

#: How often the parent is looked for, and the files of dead children, in seconds.
LOOK_SECONDS, FOLD_SECONDS = 0.5, 10.0
#: How often a port that belongs to somebody else is tried again, in seconds.
RETRY_SECONDS = 1.0
#: The files in which the values of dead children are kept are those of this process id.
NOBODY = 0


class Files(Collector):
    """The values of all children there are and have been."""

    def __init__(self, folder: Path) -> None:
        """Take the folder in which children count."""
        self._folder = folder
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """Add up what the files say."""
        with self._lock:
            files = [str(path) for path in self._folder.glob("*.db")]
            return list(MultiProcessCollector.merge(files))

    def describe(self) -> Iterable[Metric]:
        """Name nothing: what there is, is in the files."""
        return []

    def fold(self) -> int:
        """Move the values of dead children into one file a type; return how many files went.

        Without it a worker whose children are replaced for months would have a file for each.
        """
        folded = 0
        with self._lock:
            for path in self._folder.glob("*.db"):
                kind, _, pid = path.stem.rpartition("_")
                if int(pid) != NOBODY and not is_alive(int(pid)):
                    self._add(_values(path), self._folder / f"{kind}_{NOBODY}.db")
                    path.unlink()
                    folded += 1
        return folded

    @staticmethod
    def _add(values: list[tuple[str, float]], total: Path) -> None:
        kept = MmapedDict(str(total))
        try:
            for key, value in values:
                kept.write_value(key, kept.read_value(key)[0] + value, 0.0)
        finally:
            kept.close()


def _values(path: Path) -> list[tuple[str, float]]:
    """Return what a dead child counted; nothing where its file breaks off: it never will be whole.

    All before any is added, or half a file would be added again with every look.
    """
    try:
        found = list(MmapedDict.read_all_values_from_file(str(path)))
    except (ValueError, RuntimeError, struct.error):
        return []
    return [(key, value) for key, value, _timestamp, _place in found]


def is_alive(pid: int) -> bool:
    """Tell whether there is a process of this id; one of somebody else's counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(folder: Path, parent: int, address: str, port: int) -> None:
    """Answer until the parent is gone, then take the folder away."""
    # The parent drains for a while after a signal that reaches both of us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    files = Files(folder)
    registry = CollectorRegistry()
    registry.register(files)
    listening = False
    folded_at = time.monotonic()
    while os.getppid() == parent:
        if not listening:
            listening = _listen(registry, address, port)
        if time.monotonic() - folded_at > FOLD_SECONDS:
            # What cannot be read or written now is tried again; the files stay as they are.
            with contextlib.suppress(OSError, ValueError, RuntimeError, struct.error):
                files.fold()
            folded_at = time.monotonic()
        time.sleep(LOOK_SECONDS if listening else RETRY_SECONDS)
    # Not when this process fails by itself: its successor reads on.
    shutil.rmtree(folder, ignore_errors=True)


def _listen(registry: CollectorRegistry, address: str, port: int) -> bool:
    try:
        start_http_server(port, addr=address, registry=registry)
    except OSError:
        # The worker before us may still be draining: its numbers are as good, until it is gone.
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
