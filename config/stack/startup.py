"""What `up` does before Django: options, one `up` at a time, left-overs, ports, servers."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from config.embedded import layout, provision
from config.embedded.errors import EmbeddedError
from config.stack import options, orphans, screen, services

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from config.embedded import servers

TITLES = {"postgres": "PostgreSQL", "redis": "Redis"}


@contextmanager
def prepared(argv: Sequence[str]) -> Iterator[None]:
    """Do everything `up` needs before Django's settings are read.

    Raises `EmbeddedError` with one line when it cannot start; stops what it started at the end.
    """
    parser = argparse.ArgumentParser(prog="manage.py up", add_help=False)
    options.declare(parser)
    chosen, _ = parser.parse_known_args(argv[2:])
    ports = options.Ports(shift=chosen.ports)
    # Until the supervisor takes over a signal ends us as Ctrl-C does, through every `finally`.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    # Every process started from here inherits it: files are for their owner.
    os.umask(0o077)
    place = provision.rooms()
    place.prepare()
    with _alone(place.run_dir / "up.lock"):
        screen.MAIN.title("AI Business Engine")
        ended = orphans.end(record(), grace_seconds=chosen.grace + options.GRACE_MARGIN_SECONDS)
        if ended:
            screen.MAIN.remark(f"ended what a killed start had left: {', '.join(ended)}")
        refuse_taken_ports(ports, workers=chosen.workers)
        if "postgres" in provision.missing():
            screen.MAIN.begin(TITLES["postgres"])
        with provision.provision(
            list(argv), redis_port=ports.redis, announce=_announce(ports), wait=True
        ):
            yield


def record() -> Path:
    """Return where the running processes are noted down."""
    return provision.rooms().run_dir / "processes.json"


def remember_ports(ports: options.Ports) -> None:
    """Note the ports in use, for `manage.py env`."""
    layout.write_private(_ports_file(), f"{ports.shift}\n")


def remembered_ports() -> options.Ports:
    """Return the ports of the last `up` of this folder."""
    try:
        return options.Ports(shift=int(_ports_file().read_text()))
    except (OSError, ValueError):
        return options.Ports()


def _ports_file() -> Path:
    return provision.rooms().run_dir / "ports"


def refuse_taken_ports(ports: options.Ports, *, workers: int) -> None:
    """Raise one line that names every port somebody else listens on."""
    wanted = services.all_of(
        ports=ports, queues=["-"], workers=workers, concurrency=1, flower_login=""
    )
    taken = services.taken(wanted)
    if not taken:
        return
    named = ", ".join(f"{service.port} ({service.name})" for service in taken)
    plural = "ports are" if len(taken) > 1 else "port is"
    raise EmbeddedError(
        f"{plural} already in use: {named}; stop what listens there, "
        f"or shift all ports: make run PORTS=+100"
    )


def _announce(ports: options.Ports) -> servers.Announce:
    def announce(use: servers.Use) -> None:
        note = use.version
        if use.warm:
            note += ", already running"
        elif use.name == "redis":
            port = use.url.rsplit(":", 1)[1].split("/")[0]
            note += f" on port {port}"
            if int(port) != ports.redis:
                note += f" ({ports.redis} is taken)"
        screen.MAIN.done(TITLES[use.name], seconds=use.seconds, note=note)

    return announce


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock that makes this `up` the only one of its folder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode().strip() or "unknown"
            raise EmbeddedError(
                f"already running here (process {holder}): stop it with Ctrl-C there, "
                f"or: kill {holder}"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
