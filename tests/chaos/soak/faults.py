"""What is done to the processes of the platform. A fault counts only when it is known to have hit.

`strike` does it and tells whether it hit; `hold` is called while it lasts; `release` takes it back;
`is_over` tells whether what was hit is there again.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, ClassVar

import psutil

from tests.chaos.soak import platform

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.soak.platform import Platform

#: How long a signal may take to show, in seconds.
GONE_SECONDS = 5.0
MANAGERS = ("manager", platform.SECOND_MANAGER)


class Fault:
    """One blow."""

    #: How long it lasts, in seconds; 0 for what cannot be taken back.
    seconds: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __init__(self, hurt: Platform, dice: Random) -> None:
        self.platform = hurt
        self.lasts = dice.uniform(*self.seconds)
        self.target = self.choose(dice)

    def choose(self, _dice: Random) -> str:
        """Return whom it hits."""
        raise NotImplementedError

    def strike(self) -> bool:
        """Do it; return whether it is proven to have hit."""
        raise NotImplementedError

    def hold(self) -> None:
        """Keep it up while it lasts."""

    def release(self) -> None:
        """Take it back."""

    def is_over(self) -> bool:
        """Tell whether what was hit works again."""
        raise NotImplementedError


class Signal(Fault):
    """A signal to one of our processes, which its supervisor replaces."""

    number: ClassVar[signal.Signals] = signal.SIGKILL
    names: ClassVar[tuple[str, ...]] = ()
    _old: psutil.Process | None = None

    def choose(self, dice: Random) -> str:
        return dice.choice(self.names)

    def strike(self) -> bool:
        self._old = self.platform.process(self.target)
        return self._old is not None and send(self._old, self.number) and self._has_hit()

    def _has_hit(self) -> bool:
        return gone(self._old)

    def is_over(self) -> bool:
        new = self.platform.process(self.target)
        if new is None or new == self._old:
            return False
        if self.target in platform.CHILDREN:
            return len(self.platform.pool(self.target)) >= platform.CHILDREN[self.target]
        return self.platform.answers(self.target)


class WorkerKilled(Signal):
    names = platform.WORKER_NAMES


class WorkerTerminated(Signal):
    """SIGTERM: it drains, so it may live on for a while; it counts as it is delivered."""

    number = signal.SIGTERM
    names = platform.WORKER_NAMES

    def _has_hit(self) -> bool:
        return True


class OrchestratorKilled(Signal):
    names = ("orchestrator",)


class ManagerKilled(Signal):
    names = MANAGERS


class WebKilled(Signal):
    names = ("web",)


class ChildKilled(Fault):
    """kill -9 of a pool child; its parent reports the loss and forks another."""

    _parent: psutil.Process | None = None
    _old: psutil.Process | None = None

    def choose(self, dice: Random) -> str:
        self._place = dice.random()
        return dice.choice([*platform.WORKER_NAMES, *platform.WORKER_NAMES, "orchestrator"])

    def strike(self) -> bool:
        self._parent = self.platform.process(self.target)
        pool = self.platform.pool(self.target)
        if not pool:
            return False
        self._old = pool[int(self._place * len(pool))]
        return send(self._old, signal.SIGKILL) and gone(self._old)

    def is_over(self) -> bool:
        return len(self.platform.pool(self.target)) >= platform.CHILDREN[self.target]


class Stopped(Fault):
    """SIGSTOP, and SIGCONT of the same process some seconds later."""

    _old: psutil.Process | None = None

    def choose(self, dice: Random) -> str:
        self._place = dice.random()
        workers = [f"{name} child" for name in platform.CHILDREN]
        return dice.choice([*platform.CHILDREN, *workers, *workers, *MANAGERS, "web"])

    def strike(self) -> bool:
        name, _, child = self.target.partition(" ")
        self._old = self.platform.process(name)
        if child:
            pool = self.platform.pool(name)
            self._old = pool[int(self._place * len(pool))] if pool else None
        return self._old is not None and send(self._old, signal.SIGSTOP) and self._stands()

    def _stands(self) -> bool:
        return soon(lambda: status(self._old) == psutil.STATUS_STOPPED)

    def release(self) -> None:
        if self._old is not None:
            send(self._old, signal.SIGCONT)

    def is_over(self) -> bool:
        return status(self._old) != psutil.STATUS_STOPPED


class StoppedShort(Stopped):
    seconds = (0.5, platform.LEASE_SECONDS - 0.5)


class StoppedLong(Stopped):
    seconds = (platform.LEASE_SECONDS + 1.0, 2 * platform.LEASE_SECONDS + 2.0)


def send(process: psutil.Process, number: signal.Signals) -> bool:
    """Send a signal to this very process; return whether it is there."""
    try:
        process.send_signal(number)
    except psutil.Error:
        return False
    return True


def status(process: psutil.Process | None) -> str:
    """Return the state of a process, nothing when there is none."""
    try:
        return process.status() if process is not None else ""
    except psutil.Error:
        return ""


def gone(process: psutil.Process | None) -> bool:
    """Wait until the process has ended; return whether it has."""
    return soon(lambda: status(process) in {"", psutil.STATUS_ZOMBIE}, within=GONE_SECONDS)


def soon(condition, *, within: float = 1.0) -> bool:
    """Wait for a condition; return whether it came true."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
