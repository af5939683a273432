"""One soak from beginning to end: start, load and faults, quiet, verdict, end of everything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import redis

from tests.chaos.soak import fast_paths
from tests.chaos.soak.agent import Agent
from tests.chaos.soak.book import Book
from tests.chaos.soak.doors import DOORS, SHARES
from tests.chaos.soak.load import Mix
from tests.chaos.soak.platform import Platform
from tests.chaos.soak.steering import Operator
from tests.chaos.soak.verdict import Verdict, invariants, judge

if TYPE_CHECKING:
    from pathlib import Path

QUIET_SECONDS = 120.0
REPORT_SECONDS = 10.0
POLL_SECONDS = 0.25
DRAIN_MORE_SECONDS = 900
OPEN = """
SELECT (SELECT count(*) FROM engine_run
        WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'timed_out'))
    + (SELECT count(*) FROM engine_lease) + (SELECT count(*) FROM engine_outboxevent)
    + (SELECT count(*) FROM engine_deadletter d JOIN engine_run r ON r.id = d.run_id
       WHERE d.state = 'open' AND r.state NOT IN ('cancelled', 'timed_out'))
"""


class Soak:
    """Everything of one soak; `run` returns whether nothing is wrong."""

    def __init__(
        self, folder: Path, *, duration: float, seed: int, rate: float, most_open: int
    ) -> None:
        self.folder = folder
        self.duration = duration
        self.seed = seed
        self.platform = Platform(folder, token_seconds=int(duration) + DRAIN_MORE_SECONDS)
        self.book = Book(Mix(seed), most_open=most_open)
        self.agent = Agent(self.platform, seed=seed, seconds=duration, log=folder / "faults.jsonl")
        self.verdict = Verdict()
        self.quiet_seconds: float | None = None
        self._rate = rate

    def run(self) -> bool:
        """Go through it all; the platform is left running for `end`."""
        began = time.monotonic()
        self.platform.start()
        self.platform.join()
        say(f"started in {time.monotonic() - began:.0f} s, in {self.folder}")
        self.operator = Operator(self.platform, self.book, seed=self.seed)
        self.doors = [
            kind(self.platform, self.book, rate=self._rate * SHARES[name], seed=self.seed)
            for name, kind in DOORS.items()
        ]
        for thread in (*self.doors, self.operator, self.agent):
            thread.start()
        self._suffer()
        self._settle()
        with self.platform.database() as connection:
            self.verdict = judge(connection, self.book.tickets.values(), self.folder)
        invariants(self.platform, self.verdict)
        return not self.failures

    @property
    def failures(self) -> dict[str, list[str]]:
        """Return everything that is wrong, by heading."""
        found = self.verdict.failures
        late = [
            f"{b.kind}: {b.target}, struck at {b.at:.0f} s"
            for b in self.agent.hits
            if b.over is None
        ]
        if late:
            found["not over"] = late
        if missed := fast_paths.missed(self.folder, seconds=self.duration):
            found["fast paths taken too seldom"] = missed
        if self.book.refused:
            found["answers that no outage explains"] = self.book.refused
        if self.quiet_seconds is None:
            found["not quiet"] = [f"within {QUIET_SECONDS:.0f} s"]
        return found

    def end(self) -> list[str]:
        """End everything that was started; return what had to be forced."""
        self.agent.release()
        for thread in (*getattr(self, "doors", ()), getattr(self, "operator", None)):
            if thread is not None:
                thread.stop.set()
        return self.platform.stop()

    def _suffer(self) -> None:
        """Let load and faults have their time."""
        began = time.monotonic()
        told = began
        while (now := time.monotonic()) - began < self.duration:
            time.sleep(min(POLL_SECONDS, self.duration))
            if now - told >= REPORT_SECONDS:
                told = now
                self._tell(now - began)

    def _settle(self) -> None:
        """Stop load and faults; measure how long it takes until nothing is open any more."""
        self.book.close()
        self.agent.halt()
        began = time.monotonic()
        say("load and faults have stopped; waiting for quiet")
        told = began
        while (now := time.monotonic()) - began < QUIET_SECONDS:
            if self._is_quiet():
                self.quiet_seconds = time.monotonic() - began
                break
            if now - told >= REPORT_SECONDS:
                told = now
                self._tell(self.duration + now - began)
            time.sleep(POLL_SECONDS)
        self.agent.finish()
        for thread in (*self.doors, self.operator):
            thread.stop.set()
        for thread in (*self.doors, self.operator):
            thread.join(timeout=30)

    def _is_quiet(self) -> bool:
        if self.book.unanswered or not self.agent.settled:
            return False
        try:
            with self.platform.database() as connection:
                (left,) = connection.execute(OPEN).fetchone()
        except (psycopg.Error, redis.RedisError):
            return False
        return not left

    def _tell(self, seconds: float) -> None:
        hits = self.agent.hits
        last = f"; last: {hits[-1].kind} ({hits[-1].target})" if hits else ""
        say(
            f"{seconds:5.0f} s  {self.book.accepted:6} runs accepted, {len(self.book.open):3} open,"
            f" {self.operator.open_letters} dead letters, {len(hits):3} faults{last}"
        )


def say(line: str) -> None:
    """Tell how it goes, at once."""
    print(f"  {line}", flush=True)
