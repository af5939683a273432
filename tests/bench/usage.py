"""What processes use: processor time and memory, by kind of process, from `/proc`."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.installation import Installation

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
#: Fields of /proc/<pid>/stat behind the name: utime, stime; the same of children it waited for.
OWN, ENDED = (11, 12), (13, 14)
#: Columns of /proc/stat that are work: user, nice, system, irq, softirq, steal.
BUSY = (0, 1, 2, 5, 6, 7)
#: Kinds whose children count as a kind of their own.
SPLIT = ("worker",)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Of one process, in MiB; `shared out` counts a page by how many processes have it."""

    resident: float
    proportional: float


def roots(installation: Installation) -> dict[str, int]:
    """Return the process at the top of each kind of the platform."""
    names = {
        "worker": "worker1",
        "orchestrator": "orchestrator",
        "manager": "manager",
        "web": "web",
        "flower": "flower",
        "postgres": "postgres",
        "redis": "redis",
    }
    found = {kind: installation.process(name) for kind, name in names.items()}
    return {kind: process.pid for kind, process in found.items() if process} | {
        "driver": installation.driver_pid("ours")
    }


def by_kind(tops: Mapping[str, int]) -> dict[str, float]:
    """Return the processor seconds each kind has used; children that died are counted too."""
    found: dict[str, float] = {}
    for kind, pid in tops.items():
        own, ended = _seconds(pid)
        below = sum(sum(_seconds(child)) for child in _below(pid)) + ended
        if kind in SPLIT:
            found[f"{kind} parent"], found[f"{kind} children"] = own, below
        else:
            found[kind] = own + below
    return found


def memory(tops: Mapping[str, int]) -> list[tuple[str, Memory]]:
    """Return the memory of each process, parents before their children."""
    found = []
    for kind, top in tops.items():
        for number, pid in enumerate([top, *_below(top)]):
            taken = _memory(pid)
            if taken is not None:
                found.append((f"{kind} child {number}" if number else kind, taken))
    return found


class Bystanders:
    """Find out how much of the machine processes of others use between two moments."""

    def __init__(self, installation: Installation) -> None:
        baselines = [installation.worker_pid(side) for side in ("raw", "durable")]
        drivers = [installation.driver_pid(side) for side in ("raw", "durable")]
        up = installation.process("up")
        tops = [*roots(installation).values(), *baselines, *drivers, os.getpid()]
        self._tops = [*tops, *([up.pid] if up else [])]
        self._last = self._now()

    def share(self) -> float:
        """Return the share of all processors others used since the last question."""
        before, self._last = self._last, self._now()
        seconds = self._last[0] - before[0]
        busy, ours = self._last[1] - before[1], self._last[2] - before[2]
        return max(0.0, busy - ours) / (seconds * (os.cpu_count() or 1)) if seconds else 0.0

    def _now(self) -> tuple[float, float, float]:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        busy = sum(int(fields[column]) for column in BUSY) * TICK_SECONDS
        pids = {pid for top in self._tops for pid in [top, *_below(top)]}
        ours = sum(sum(_seconds(pid)) for pid in pids)
        return time.monotonic(), busy, ours


def _below(pid: int) -> list[int]:
    """Return the children of a process, theirs included, the nearest first."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _seconds(pid: int) -> tuple[float, float]:
    """Return the processor seconds of a process, and of its children that have ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0, 0.0
    fields = text.rpartition(")")[2].split()
    own = sum(int(fields[number]) for number in OWN) * TICK_SECONDS
    return own, sum(int(fields[number]) for number in ENDED) * TICK_SECONDS


def _memory(pid: int) -> Memory | None:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in text.splitlines()[1:])
    resident, proportional = (int(sizes[name].split()[0]) / 1024 for name in ("Rss", "Pss"))
    return Memory(resident=resident, proportional=proportional)
