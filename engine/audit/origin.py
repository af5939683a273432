"""Who acts, and from where: carried beside the call, so that no door has to hand it on.

Set by the middleware, the API's authentication and the commands. Where nobody set it, the
installation itself acts (`system`).
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Source = Literal["api", "admin", "command", "hook", "system"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an act comes from; `address` is the network address of the caller, empty for none."""

    source: Source = "system"
    actor: str = ""
    address: str = ""
    request_id: str = ""


_ITSELF = Origin()
_current: ContextVar[Origin] = ContextVar("audit_origin", default=_ITSELF)


def current() -> Origin:
    """Return where the act under way comes from."""
    return _current.get()


def identify(actor: str) -> None:
    """Say who acts, as soon as that is known; the rest of the origin stays."""
    _current.set(replace(_current.get(), actor=actor))


def come_from(source: Source) -> None:
    """Say by which face the act comes in; the rest of the origin stays."""
    _current.set(replace(_current.get(), source=source))


@contextmanager
def of(origin: Origin) -> Iterator[None]:
    """Act with this origin; at the end the one before is back, whatever was identified within."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)
