"""Start child processes, show what they say, start them again when they die, and end them all.

One thread: the kernel signals a child when the *thread* that started it dies, so threads would end
children at random. Everything happens inside `tick()`, which whoever waits for something calls.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from config.embedded import wakeup
from config.stack import orphans
from config.stack.children import Child, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FIRST_RESTART_SECONDS = 0.5
LONGEST_RESTART_SECONDS = 30.0
STABLE_SECONDS = 60.0
LOOK_AFTER_SECONDS = 1.0
TICK_SECONDS = 0.2

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Own the child processes of one `up`."""

    def __init__(
        self,
        *,
        say: Callable[[str, str], None],
        record: Path,
        log_dir: Path,
        grace_seconds: float,
        keep_open: Sequence[int] = (),
        look_after: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over SIGINT, SIGTERM and SIGHUP.

        `say(name, line)` shows a line. Children inherit the descriptors of `keep_open`.
        `look_after` is called every second for what is not a child.
        """
        self.children: list[Child] = []
        #: The signals asking for an end, in order; a second one hurries.
        self.asked_to_stop: list[signal.Signals] = []
        self.stopping = False
        self._say = say
        self._record = record
        self._log_dir = log_dir
        self._grace_seconds = grace_seconds
        self._keep_open = tuple(keep_open)
        self._look_after = look_after
        self._looked_at = time.monotonic()
        self._wake = wakeup.wake_on((*SIGNALS, signal.SIGCHLD), self._note_signal)

    def start(self, service: Service) -> Child:
        """Start a process and keep it running from now on."""
        child = Child(service=service, output=self._log_dir / f"{service.name}.out")
        self.children.append(child)
        self._spawn(child)
        return child

    def tick(self, seconds: float = TICK_SECONDS) -> None:
        """Wait at most this long for something to happen, and deal with it."""
        select.select([self._wake], [], [], seconds)
        wakeup.drain(self._wake)
        for child in self.children:
            if child.running:
                self._show(child.service.name, child.read_lines())
            if child.running and child.ended():
                self._bury(child)
            if not child.running and not self.stopping and time.monotonic() >= child.due_at:
                self._spawn(child)
        if not self.stopping and time.monotonic() - self._looked_at >= LOOK_AFTER_SECONDS:
            self._look_after()
            self._looked_at = time.monotonic()

    def run(self) -> None:
        """Supervise until a signal asks for an end."""
        while not self.asked_to_stop:
            self.tick()

    def stop(self) -> bool:
        """Let every process finish what it does, end them after the grace; tell whether all obeyed.

        Another signal during the grace ends them at once: the work is durable and goes on at the
        next start.
        """
        self.stopping = True
        already_asked = len(self.asked_to_stop)
        for child in self.children:
            child.ask_to_stop()
        deadline = time.monotonic() + self._grace_seconds
        while any(child.running for child in self.children):
            if len(self.asked_to_stop) > already_asked or time.monotonic() > deadline:
                break
            self.tick()
        late = [child for child in self.children if child.running]
        for child in late:
            self._say("up", f"{child.service.name} did not stop in time and was ended")
            child.kill()
        while any(child.running for child in self.children):
            self.tick()
        self._record.unlink(missing_ok=True)
        return not late

    def _spawn(self, child: Child) -> None:
        child.spawn(keep_open=self._keep_open)
        orphans.note(self._record, [child.identity for child in self.children if child.running])

    def _show(self, name: str, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(name, line)

    def _bury(self, child: Child) -> None:
        lived = time.monotonic() - child.started_at
        status = child.bury()
        self._show(child.service.name, child.last_words())
        if self.stopping:
            return
        if lived > STABLE_SECONDS:
            child.restarts = 0
        wait = min(FIRST_RESTART_SECONDS * 2**child.restarts, LONGEST_RESTART_SECONDS)
        child.restarts += 1
        child.due_at = time.monotonic() + wait
        self._say("up", f"{child.service.name} ended ({status}), starting again in {wait:g} s")

    def _note_signal(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self.asked_to_stop.append(signal.Signals(number))


def exit_code(asked: Sequence[signal.Signals]) -> int:
    """Return the exit code after an end somebody asked for: SIGTERM is how services are stopped."""
    return 128 + signal.SIGINT if asked and asked[0] == signal.SIGINT else os.EX_OK
