"""Who writes a line: which process of the installation, and in a worker the name it claims by."""

from __future__ import annotations

import os
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

MANAGER = "manager"
#: Programs that run on `python -m`: the name of their folder is theirs.
_MODULES = frozenset({"__main__.py", "__main__"})
#: What a Celery command line may be for.
_CELERY = frozenset({"worker", "flower", "inspect", "control"})


class _Self:
    """What this process is called; set before a worker's children are forked."""

    process = ""
    hostname = ""


def process_of(arguments: list[str]) -> str:
    """Return what a command line starts: web, manager, worker, flower, or a command's name.

    >>> process_of(["manage.py", "manager", "--port", "8080"])
    'manager'
    """
    if not arguments:
        return "python"
    program = PurePath(arguments[0])
    name = program.parent.name if program.name in _MODULES else program.stem
    words = arguments[1:]
    match name:
        case "manage" | "django" | "django-admin":
            return next((word for word in words if not word.startswith("-")), "manage")
        case "uvicorn":
            return "web"
        case "celery":
            return next((word for word in words if word in _CELERY), "celery")
        case _:
            return name or "python"


def serve(hostname: str) -> None:
    """Take the name of a Celery worker, `worker1@host`; its children inherit it."""
    _Self.process = hostname.partition("@")[0]
    _Self.hostname = hostname


def current() -> str:
    """Return what this process is called."""
    if not _Self.process:
        _Self.process = process_of(sys.argv)
    return _Self.process


def identified(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say on a line who writes it; `worker` as it stands in claims and events of steps."""
    event.setdefault("process", current())
    event.setdefault("pid", os.getpid())
    if _Self.hostname:
        event.setdefault("worker", f"{_Self.hostname}/{os.getpid()}")
    # A request's id becomes the correlation id of the run it starts: one name finds both.
    if "request_id" in event:
        event.setdefault("correlation_id", event["request_id"])
    return event
