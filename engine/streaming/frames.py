"""The text of Server-Sent Events (HTML standard, 9.2): UTF-8, a blank line ends an event."""

from __future__ import annotations

HEARTBEAT = b": heartbeat\n\n"


def event(name: str, data: str, *, id: int | None = None) -> bytes:  # noqa: A002 - the field's word
    r"""Return an event; `data` is JSON on one line (its line ends are written as \n)."""
    number = f"id: {id}\n" if id is not None else ""
    return f"{number}event: {name}\ndata: {data}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """Tell a client how long to wait before it connects again."""
    return f"retry: {milliseconds}\n\n".encode()


def position(id: int) -> bytes:  # noqa: A002 - the field's word
    """Beat, and move the client's last event id on without telling an event."""
    return f": heartbeat\nid: {id}\n\n".encode()
