"""Use the embedded servers: start them when nobody has, leave them when done.

    with servers.session(var_dir=folder) as urls:
        ...  # urls.database_url, urls.redis_url

Any number of processes may use one folder at once; the last one out stops the servers.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.embedded import layout, locks, processes
from config.embedded.errors import EmbeddedError

SETTLE_SECONDS = 120
POLL_SECONDS = 0.02

Announce = Callable[["Use"], None]


@dataclass(kw_only=True)
class Use:
    """One process's use of one server."""

    name: str
    url: str
    owner_url: str
    version: str
    descriptor: int
    seconds: float
    warm: bool


@dataclass(kw_only=True)
class Wish:
    """Which server is wanted, and how."""

    name: str
    rooms: layout.Layout
    port: int | None = None
    durable: bool = True
    # Set when this process started the keeper, and so has to collect it in the end.
    keeper: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def locks(self) -> locks.Locks:
        """Return the server's locks."""
        return locks.Locks(folder=self.rooms.run_dir, name=self.name)

    def acquire(self) -> Use:
        """Start the server unless it runs, and use it until `release`.

        Raises `EmbeddedError` with one line when the server cannot be had.
        """
        began = time.monotonic()
        with self.locks.gate():
            warm = self.locks.kept()
            if not warm:
                self._start_keeper()
            record = self._settled_record()
            descriptor = self.locks.begin_use()
        return Use(
            name=self.name,
            url=record["url"],
            # A keeper of before there were two roles says only the one URL, the owner's.
            owner_url=record.get("owner_url", record["url"]),
            version=record["version"],
            descriptor=descriptor,
            seconds=time.monotonic() - began,
            warm=warm,
        )

    def release(self, use: Use, *, wait: bool) -> None:
        """Stop using the server; with `wait` see it stopped when nobody else uses it."""
        os.close(use.descriptor)
        if wait:
            self._see_stopped()
        if self.keeper and self.keeper.poll() is None:
            # It lives on for others, or for a moment; Popen would warn of that.
            self.keeper.returncode = 0

    def _see_stopped(self) -> None:
        nudged = False
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            with self.locks.gate():
                if self.locks.used():
                    return
                if not self.locks.kept():
                    if self.keeper:
                        self.keeper.wait()
                    return
            if not nudged and (keeper := processes.find(self.record().get("keeper"))):
                keeper.send_signal(signal.SIGUSR1)
                nudged = True
            time.sleep(POLL_SECONDS)

    def kept(self) -> bool:
        """Tell whether the server has a keeper that restarts it."""
        with self.locks.gate():
            return self.locks.kept()

    def revive(self) -> None:
        """Start the keeper again if it is gone; our use of the server goes on."""
        with self.locks.gate():
            if not self.locks.kept():
                self._start_keeper()

    def _start_keeper(self) -> None:
        if self.keeper:
            self.keeper.wait()  # an earlier one that was killed
        command = [sys.executable, "-m", "config.embedded.keeper", self.name]
        command += ["--var-dir", str(self.rooms.var_dir)]
        command += ["--port", str(self.port)] if self.port is not None else []
        command += [] if self.durable else ["--careless"]
        with (self.rooms.log_dir / "embedded.log").open("ab") as log:
            # A session of its own: neither Ctrl-C in the terminal nor our own end reaches it.
            keeper = subprocess.Popen(
                command,
                cwd=layout.PROJECT_DIR,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        with keeper.stdout or nullcontext() as answer:
            said = answer.readline().decode().strip() if answer else ""
        if said != "ready":
            keeper.wait()
            reason = (
                said.removeprefix("error ")
                or f"its keeper ended (log: {self.rooms.log_dir}/embedded.log)"
            )
            raise EmbeddedError(reason)
        self.keeper = keeper

    def _settled_record(self) -> dict[str, Any]:
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            record = self.record()
            if record.get("ready"):
                return record
            if not self.locks.kept():
                break
            time.sleep(POLL_SECONDS)
        message = f"the embedded {self.name} does not come up (logs: {self.rooms.log_dir})"
        raise EmbeddedError(message)

    def record(self) -> dict[str, Any]:
        """Return what the keeper says about its server."""
        try:
            found = json.loads((self.rooms.run_dir / f"{self.name}.json").read_text())
        except (OSError, ValueError):
            return {}
        return dict(found)


@dataclass(frozen=True, kw_only=True)
class Urls:
    """Where the servers of a session are; the database as its owner, who may do everything."""

    database_url: str
    redis_url: str
    #: The database as the application signs in to it.
    application_url: str


@contextmanager
def session(
    *,
    var_dir: Path,
    durable: bool = True,
    redis_port: int | None = None,
) -> Iterator[Urls]:
    """Use both servers of a folder; whoever leaves last waits until they have stopped.

    `redis_port=None` takes any free port. `durable=False` gives up safety against a power cut for
    speed: for throw-away folders only.
    """
    rooms = layout.Layout(var_dir=var_dir.resolve())
    rooms.prepare()
    wishes = [
        Wish(name="postgres", rooms=rooms, durable=durable),
        Wish(name="redis", rooms=rooms, port=redis_port, durable=durable),
    ]
    with using(wishes) as uses:
        yield Urls(
            database_url=uses["postgres"].owner_url,
            redis_url=uses["redis"].url,
            application_url=uses["postgres"].url,
        )


@contextmanager
def using(
    wishes: list[Wish], *, announce: Announce | None = None, wait: bool = True
) -> Iterator[dict[str, Use]]:
    """Use the wished servers; `announce` is called as each comes up.

    Without `wait` the servers linger a moment after the last user, for the next command.
    """
    held: list[tuple[Wish, Use]] = []
    try:
        for wish in wishes:
            use = wish.acquire()
            held.append((wish, use))
            if announce:
                announce(use)
        yield {use.name: use for _, use in held}
    finally:
        for wish, use in reversed(held):
            wish.release(use, wait=wait)
