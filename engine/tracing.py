"""Spans of what is done here: a port with nobody behind it unless tracing is switched on.

`config.tracing` puts OpenTelemetry behind it. Until then every door of this module hands out
NOTHING, the same object each time: no span is made, nothing is imported, nothing is asked.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value = str | int | float | bool
Kind = Literal["internal", "server", "client", "producer", "consumer"]


class Span(Protocol):
    """Something that is being done. As a context it ends with its block, failed by an error."""

    #: What is to be handed on as its context (W3C Trace Context); "" when nothing is traced.
    traceparent: str

    def note(self, words: Mapping[str, Value], *, name: str = "") -> None:
        """Add attributes, and give it a better name; never payloads, never an error's text."""

    def end(self, words: Mapping[str, Value], *, error: str = "", ago_seconds: float = 0.0) -> None:
        """End it, `ago_seconds` before now, failed if `error` names a code; once is enough."""

    def __enter__(self) -> Self:
        """Make it what is done in this context."""
        ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """End it."""


class Tracer(Protocol):
    """Make spans and send them away; must neither raise nor wait."""

    def begin(
        self,
        name: str,
        *,
        kind: Kind,
        parent: str,
        words: Mapping[str, Value],
        links: Sequence[str],
        ago_seconds: float,
    ) -> Span:
        """Begin a span, as of `ago_seconds` before now; `parent` and `links` are traceparents."""
        ...

    def flush(self, seconds: float) -> None:
        """Send what has ended, within so many seconds."""

    def drain(self) -> None:
        """Send each span when it ends from now on: this process is about to end."""


class _Nothing:
    """The span of a process that traces nothing."""

    __slots__ = ()
    traceparent = ""

    def note(self, words: Mapping[str, Value], *, name: str = "") -> None:
        """Forget it."""

    def end(self, words: Mapping[str, Value], *, error: str = "", ago_seconds: float = 0.0) -> None:
        """Forget it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        return None


NOTHING: Span = _Nothing()
#: Traceparent of the innermost span that is open as a context here, for links; "" for none.
current: ContextVar[str] = ContextVar("tracing_current", default="")
_tracer: Tracer | None = None
_role = "command"


def register(tracer: Tracer | None) -> None:
    """Name the tracer of this process; `ConfigConfig.ready()` does, when tracing is on."""
    global _tracer  # noqa: PLW0603 - one tracer per process, set once at start
    _tracer = tracer


def play(role: str) -> None:
    """Say what this process is: web, manager or worker; before its first span."""
    global _role  # noqa: PLW0603 - one role per process, set once at start
    _role = role


def role() -> str:
    """Return what this process is."""
    return _role


def is_on() -> bool:
    """Return whether spans are made: asked before anything is gathered for one."""
    return _tracer is not None


def begin(
    name: str,
    *,
    kind: Kind = "internal",
    parent: str = "",
    words: Mapping[str, Value] | None = None,
    links: Sequence[str] = (),
    ago_seconds: float = 0.0,
) -> Span:
    """Begin a span below `parent`, a traceparent, or as a trace of its own; NOTHING when off."""
    if _tracer is None:
        return NOTHING
    return _tracer.begin(
        name, kind=kind, parent=parent, words=words or {}, links=links, ago_seconds=ago_seconds
    )


def flush(seconds: float) -> None:
    """Send what has ended, within so many seconds; at once when nobody takes it."""
    if _tracer is not None:
        _tracer.flush(seconds)


def drain() -> None:
    """Send each span when it ends from now on: this process is about to end."""
    if _tracer is not None:
        _tracer.drain()
