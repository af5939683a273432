"""One log for everything: structlog and the standard library, to the terminal and to files.

Files are JSON, one line an event: `app.log` has every process, `manager.log` the manager's lines
again. Stdout is for people on a terminal and JSON elsewhere. What a line may say: `config.logs`.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from config.logs import fields, identity, redaction

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import EventDict, Processor, WrappedLogger

APP_LOG = "app.log"
#: Processes whose lines stand in a file of their own as well.
OWN_LOGS = {identity.MANAGER: "manager.log"}
#: Not rotated by default before it has this size, and so many are kept beside it.
FILE_BYTES, GENERATIONS = 20_000_000, 5


class Terminal(logging.StreamHandler[Any]):
    """Write to stdout: for people where it is a terminal, JSON where something collects it.

    Decided a line, because commands move it to stderr, which may be the one and not the other.
    """

    def __init__(
        self, *, human: logging.Formatter, machine: logging.Formatter, json: bool | None
    ) -> None:
        """Take both formats; `json` decides, None lets the stream decide."""
        super().__init__(sys.stdout)
        self.human = human
        self.machine = machine
        self.json = json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line in the format of the stream it goes to."""
        json = self.json
        if json is None:
            json = not self.stream.isatty()
        return (self.machine if json else self.human).format(record)


def shared_processors(*, names: frozenset[str], library: bool) -> list[Processor]:
    """Return what every line passes, ours or a library's, where it is written."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        identity.identified,
        redaction.only_shown(names=names, library=library),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def last_processors(*, error_texts: bool) -> list[Processor]:
    """Return what every line passes before it is rendered."""
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        redaction.without_query,
        redaction.errors(texts=error_texts),
        redaction.clean,
        in_order,
    ]


def in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put what every line says first; level names as `grep -E "(ERROR|WARN|CRITICAL)"` finds."""
    if "level" in event:
        event["level"] = str(event["level"]).upper()
    first = {name: event[name] for name in fields.PLACE if name in event}
    return first | {name: value for name, value in event.items() if name not in first}


def without_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out what whoever looks at a process' own output knows."""
    for name in ("process", "pid", "worker"):
        event.pop(name, None)
    return event


def human_renderer(*, colors: bool) -> Processor:
    """Return the terminal's renderer: short, one line first, places of an error below."""
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        pad_event_to=0,
        pad_level=False,
        sort_keys=False,
        timestamp_key="timestamp",
        exception_formatter=structlog.dev.plain_traceback,
        level_styles=LEVEL_STYLES if colors else None,
    )


_STYLES = structlog.dev.ConsoleRenderer.get_default_level_styles()
#: By the names that lines carry.
LEVEL_STYLES = {name.upper(): style for name, style in _STYLES.items()}


def configure(*, names: frozenset[str]) -> None:
    """Point structlog at the standard library, where `logging_config` takes over."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared_processors(names=names, library=False),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logging_config(
    *,
    level: str,
    directory: Path,
    json: bool | None = None,
    limit_bytes: int = FILE_BYTES,
    generations: int = GENERATIONS,
    more_fields: list[str] | None = None,
    error_texts: bool = False,
    process: str | None = None,
) -> dict[str, Any]:
    """Return Django's LOGGING; also configures structlog, which has no settings of its own.

    json: what stdout is, None lets it depend on being a terminal. `directory` is made; where it
    cannot be written, stdout is the only log: a read-only container must start. limit_bytes: when
    a file is rotated, 0 never; generations: how many are kept. more_fields: shown beside
    `fields.SHOWN`. error_texts: show what exceptions say, also where it may be a payload.
    """
    names = redaction.shown_names(more=more_fields or [])
    configure(names=names)
    last = last_processors(error_texts=error_texts)
    chain: list[Processor] = [
        structlog.stdlib.ExtraAdder(),
        *shared_processors(names=names, library=True),
    ]
    formats: dict[str, list[Processor]] = {
        "json": [*last, structlog.processors.JSONRenderer(default=str)],
        "human": [
            *last,
            redaction.plain_text,
            without_process,
            human_renderer(colors=sys.stdout.isatty()),
        ],
    }
    human, machine = (
        structlog.stdlib.ProcessorFormatter(processors=formats[name], foreign_pre_chain=chain)
        for name in ("human", "json")
    )
    handlers: dict[str, Any] = {
        "terminal": {"()": Terminal, "human": human, "machine": machine, "json": json}
    }
    if _writable(directory):
        files = [APP_LOG]
        if own := OWN_LOGS.get(process or identity.current()):
            files.append(own)
        for file in files:
            handlers[file.removesuffix(".log")] = {
                "class": "config.logs.files.RotatedFile",
                "filename": str(directory / file),
                "limit_bytes": limit_bytes,
                "generations": generations,
                "formatter": "json",
            }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            name: {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": processors,
                "foreign_pre_chain": chain,
            }
            for name, processors in formats.items()
        },
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": level},
        "loggers": {
            # A line a task would be two lines a step; what matters of a step is in its events.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
            "django.db.backends": {"level": "WARNING"},
            # A line a call, with its whole address, which may hold a secret or what is asked for.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            # A refused request is an answer, not an incident; what breaks is logged as an error.
            "django.request": {"level": "ERROR"},
            # Nor is a wrong Host header, which anybody can send as often as he likes.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            # The server's own handlers would write past the files and past the redaction.
            "uvicorn": {"handlers": [], "propagate": True},
            "uvicorn.error": {"handlers": [], "propagate": True},
            "uvicorn.access": {"handlers": [], "propagate": False},
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
