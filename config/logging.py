"""One log for everything: structlog and the standard library, to the terminal and to a file.

The file is always JSON, one line an event, with `correlation_id`, `run_id` and `step_id` where they
are bound. The terminal is JSON or made for people. Payloads are never logged.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import EventDict, Processor, WrappedLogger

#: Names whose values never reach a log line, whoever logs them.
SECRET_NAMES = frozenset(
    {"password", "secret", "token", "authorization", "api_key", "jwt", "cookie", "input", "payload"}
)


#: The address of an incoming webhook is its password.
HOOK = re.compile(r"(/hooks/)[^\s'\"?#/]+")


def without_hook_tokens(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide tokens in addresses that Django, or a server in front of it, logs."""
    for name, value in event.items():
        shown = str(value) if name == "request" else value
        if isinstance(shown, str) and "/hooks/" in shown:
            event[name] = HOOK.sub(r"\1[hidden]", shown)
    return event


def without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide values by the name they are logged under."""
    for name in event:
        if name.lower() in SECRET_NAMES:
            event[name] = "[hidden]"
    return event


def shared_processors() -> list[Processor]:
    """Return what every line passes, ours or a library's."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        without_secrets,
        without_hook_tokens,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def human_renderer(*, colors: bool) -> Processor:
    """Return the terminal's renderer: short, one line first, traceback below."""
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        pad_event_to=0,
        pad_level=False,
        timestamp_key="timestamp",
        exception_formatter=structlog.dev.plain_traceback,
    )


def configure() -> None:
    """Point structlog at the standard library, where `logging_config` takes over."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared_processors(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logging_config(
    *, json: bool, level: str, directory: Path, file: str = "app.log"
) -> dict[str, Any]:
    """Return Django's LOGGING; also configures structlog, which has no settings of its own.

    `directory` is made. Where it cannot be written, the terminal is the only log: a read-only
    container must start.
    """
    configure()
    handlers: dict[str, Any] = {
        "terminal": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "json" if json else "human",
        }
    }
    if _writable(directory):
        # WatchedFileHandler: several processes append to it, and logrotate may move it away.
        handlers["file"] = {
            "class": "logging.handlers.WatchedFileHandler",
            "filename": str(directory / file),
            "formatter": "json",
            "delay": True,
        }
    to_json: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str),
    ]
    for_people: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        human_renderer(colors=sys.stdout.isatty()),
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            name: {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": processors,
                "foreign_pre_chain": [structlog.stdlib.ExtraAdder(), *shared_processors()],
            }
            for name, processors in {"json": to_json, "human": for_people}.items()
        },
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": level},
        "loggers": {
            # A line a task would be two lines a step; what matters of a step is in its events.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
            "django.db.backends": {"level": "WARNING"},
            # A refused request is an answer, not an incident; what breaks is logged as an error.
            "django.request": {"level": "ERROR"},
            # Nor is a wrong Host header, which anybody can send as often as he likes.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
        },
    }


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / ".writable").open("w"):
            pass
        (directory / ".writable").unlink(missing_ok=True)
    except OSError as exc:
        logging.getLogger(__name__).warning("no log file in %s: %s", directory, exc.strerror)
        return False
    return True
