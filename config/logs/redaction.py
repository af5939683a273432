"""What a log line may say: listed fields, texts without credentials, errors by their kind.

Fields that `fields.SHOWN` does not name are hidden. Of an exception the log keeps type and places
(file, line, function); its text only for kinds of errors whose texts hold no payload, because a
`ValueError` quotes what it could not read. `LOG_ERROR_TEXT=1` shows all of it, on the machine of
whoever writes steps.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from django.db import InterfaceError, OperationalError

from config.logs import fields
from engine import printable
from engine.errors import EngineError

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "[hidden]"
TEXT_HIDDEN = "[text hidden: LOG_ERROR_TEXT=1 shows it]"
#: Longest text of one field, and of one exception with all its causes, in characters.
MAX_TEXT, MAX_EXCEPTION = 2_000, 20_000
#: Causes of causes that are shown.
MAX_CAUSES = 10

#: Errors whose texts name parts of the machine or of the code, not values of a business.
PLAIN_ERRORS: tuple[type[BaseException], ...] = (
    EngineError,
    OSError,
    redis.RedisError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    OperationalError,
    InterfaceError,
    TypeError,
    AttributeError,
    NameError,
    ImportError,
    IndexError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    SystemExit,
    KeyboardInterrupt,
)

#: What is a credential wherever it stands, and what is left of it.
_CREDENTIALS: tuple[tuple[re.Pattern[str], str], ...] = (
    # The address of an incoming webhook is its password.
    (re.compile(r"(/hooks/)[^\s'\"?#/]+"), rf"\1{HIDDEN}"),
    # Bounded: a text of nothing but beginnings would be read to its end for each of them.
    (
        re.compile(r"\b([a-z][a-z0-9+.-]{0,30}://[^\s:/@]*):[^\s/@]+@", re.IGNORECASE),
        rf"\1:{HIDDEN}@",
    ),
    (re.compile(r"\beyJ[\w-]{1,1000}\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\bwhsec_[\w+/=-]+"), HIDDEN),
    (
        re.compile(
            r"\b((?:\w*(?:password|passwd|passphrase|secret|token|sessionid|authorization|cookie|"
            r"(?:api|secret|private|master|signing|access)[_-]?key)s?|access|refresh)"
            r"[\"']?\s*[=:]\s*[\"']?)(?!\[hidden)[^\s\"'&,;)}\]]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
)
#: Queries of addresses carry what callers typed.
_QUERY = re.compile(r"\?[^\s'\"]*")
#: A value shorter than this is no secret, or too common a word to be taken out of every line.
_SHORTEST_SECRET = 8
#: A text of an error shorter than this would be taken out of the middle of words.
_SHORTEST_QUOTED = 3

_known: set[str] = set()


def learn(*secrets: str) -> None:
    """Never let these values pass, wherever they stand in a line."""
    _known.update(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)


def scrubbed(text: str) -> str:
    """Return a text without what is known, or looks like, a credential."""
    for secret in _known:
        text = text.replace(secret, HIDDEN)
    for pattern, left in _CREDENTIALS:
        text = pattern.sub(left, text)
    return text


def only_shown(*, names: frozenset[str], library: bool) -> Processor:
    """Return a processor that lets the values of `names` pass and hides every other.

    library: leave the others out; a library adds what it likes, and nobody misses it.
    """

    def processor(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name in list(event):
            if name in names or name in {"exc_info", "stack_info"} or name.startswith("_"):
                continue
            if library:
                del event[name]
            else:
                event[name] = HIDDEN
        return event

    return processor


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take credentials out of every text of a line, and bound its length; runs last."""
    for name, value in event.items():
        event[name] = _shown(value, longest=MAX_EXCEPTION if name == "exception" else MAX_TEXT)
    return event


def plain_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Spell out control characters: a terminal would obey them, and a line break forges a line."""
    plain: EventDict = {}
    for name, value in event.items():
        spelled = printable.lines if name == "exception" else printable.line
        plain[printable.line(name)] = spelled(value) if isinstance(value, str) else value
    return plain


def without_query(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut queries off the addresses of requests that servers and Django log."""
    if isinstance(event.get("event"), str) and str(event.get("logger", "")).startswith(
        ("django.", "uvicorn", "tornado.")
    ):
        event["event"] = _QUERY.sub("", event["event"])
    return event


def errors(*, texts: bool) -> Processor:
    """Return a processor that turns `exc_info` into `exception`; `texts` shows all of each."""

    def processor(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        given = event.pop("exc_info", None)
        error = _error_of(given)
        if error is None:
            return event
        if texts:
            event["exception"] = "".join(traceback.format_exception(error)).rstrip()
        else:
            event["exception"] = described(error)
            event["event"] = _unquoted(str(event.get("event", "")), error)
        return event

    return processor


def described(error: BaseException) -> str:
    """Return an exception with its causes, the first one first: places, types, harmless texts."""
    parts: list[str] = []
    for one, link in reversed(_chain(error)):
        if parts and link:
            parts.append(link)
        parts += [
            f"  {place.filename}:{place.lineno} in {place.name}"
            for place in traceback.extract_tb(one.__traceback__)
        ]
        parts.append(f"{_type(one)}: {_text(one)}".rstrip(": "))
        if isinstance(one, BaseExceptionGroup):
            parts += [f"  | {_type(below)}: {_text(below)}" for below in one.exceptions]
    return "\n".join(parts)


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """Return an error and its causes, each with what links it to the next, its own cause."""
    chain: list[tuple[BaseException, str]] = []
    found: BaseException | None = error
    while found is not None and len(chain) < MAX_CAUSES:
        if found.__cause__ is not None:
            cause, link = found.__cause__, "which was the cause of"
        elif found.__context__ is not None and not found.__suppress_context__:
            cause, link = found.__context__, "while it was handled"
        else:
            cause, link = None, ""
        chain.append((found, link))
        found = cause if all(cause is not seen for seen, _ in chain) else None
    return chain


def _unquoted(text: str, error: BaseException) -> str:
    """Return a message without what the errors say that it is about: Celery repeats them in it."""
    for one, _link in _chain(error):
        if isinstance(one, PLAIN_ERRORS):
            continue
        text = text.replace(repr(one), f"{_type(one)}: {TEXT_HIDDEN}")
        if len(said := str(one)) >= _SHORTEST_QUOTED:
            text = text.replace(said, TEXT_HIDDEN)
    return text


def _error_of(given: Any) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1] if isinstance(given[1], BaseException) else None
    if given:
        import sys  # noqa: PLC0415 - `exc_info=True` alone needs it

        return sys.exc_info()[1]
    return None


def _text(error: BaseException) -> str:
    if not isinstance(error, PLAIN_ERRORS):
        return TEXT_HIDDEN if str(error) else ""
    # What follows the first line of the database's errors are the values it met.
    return next(iter(str(error).splitlines()), "")


def _type(error: BaseException) -> str:
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _shown(value: Any, *, longest: int) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_shown(one, longest=longest) for one in value]
    if isinstance(value, Mapping):
        return HIDDEN
    if isinstance(value, BaseException):
        value = f"{_type(value)}: {_text(value)}".rstrip(": ")
    text = scrubbed(str(value))
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text)} characters)"


def shown_names(*, more: list[str]) -> frozenset[str]:
    """Return the allow-list with an installation's own names."""
    return fields.SHOWN | frozenset(more)
