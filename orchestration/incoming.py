"""What an entry of `automation.events` means. Pure: bytes in, a request or a refusal out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from engine import trace_context

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUESTED = "automation.run.requested"
#: What we tell ourselves by the same stream: for other readers, not for us.
OUTGOING = frozenset(
    {
        "run.started",
        "run.status.updated",
        "run.completed",
        "run.failed",
        "run.cancelled",
        "approval.requested",
        "approval.decided",
        "dead_letter.created",
    }
)
#: Longest id a producer may give an event; it becomes the run's business key.
MAX_EVENT_ID_CHARACTERS = 200
MAX_CORRELATION_ID_CHARACTERS = 100
#: Longest `data` that is looked at, in bytes; large values travel as files.
MAX_DATA_BYTES = 1_000_000


class MalformedEventError(Exception):
    """Refuse an entry: a stable code, and a reason for the one who sent it."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run somebody asks for."""

    automation: str
    input: dict[str, Any]
    dedupe_key: str
    correlation_id: str
    traceparent: str


def parse(*, entry_id: str, fields: Mapping[bytes, bytes]) -> RunRequest | None:
    """Return the request an entry carries, None for one of our own events.

    Raises MalformedEventError for everything else.
    """
    words = {_text(name, what="a field's name"): value for name, value in fields.items()}
    if "event_type" not in words:
        raise MalformedEventError("event_type_missing", "the event has no field event_type")
    event_type = _text(words["event_type"], what="event_type")
    if event_type in OUTGOING:
        return None
    if event_type != REQUESTED:
        raise MalformedEventError(
            "event_type_unknown", f"event_type is {event_type[:100]!r}; taken is {REQUESTED}"
        )
    # The guide and old producers say `intent`.
    name = words.get("automation") or words.get("intent") or b""
    automation = _text(name, what="automation").strip()
    if not automation:
        raise MalformedEventError("automation_missing", "the event has no field automation")
    event_id = _text(words.get("event_id", b""), what="event_id").strip()
    return RunRequest(
        automation=automation,
        input=_data(words.get("data", b"")),
        dedupe_key=f"event:{_bounded(event_id, MAX_EVENT_ID_CHARACTERS, what='event_id')}"
        if event_id
        else f"stream:{entry_id}",
        correlation_id=_bounded(
            _text(words.get("correlation_id", b""), what="correlation_id").strip(),
            MAX_CORRELATION_ID_CHARACTERS,
            what="correlation_id",
        ),
        traceparent=trace_context.parse(_text(words.get("traceparent", b""), what="traceparent")),
    )


def _text(value: bytes, *, what: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise MalformedEventError("not_utf8", f"{what} is not UTF-8") from None
    if "\x00" in text:
        raise MalformedEventError("nul_character", f"{what} contains a NUL character")
    return text


def _bounded(text: str, limit: int, *, what: str) -> str:
    if len(text) > limit:
        raise MalformedEventError("too_long", f"{what} has more than {limit} characters")
    return text


def _data(value: bytes) -> dict[str, Any]:
    """Return the input; strict JSON, because what is stored must be what was sent."""
    if len(value) > MAX_DATA_BYTES:
        raise MalformedEventError("data_too_large", f"data has more than {MAX_DATA_BYTES} bytes")
    text = _text(value, what="data")
    if not text.strip():
        return {}
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise MalformedEventError("data_not_json", "data is nested too deeply") from None
    except ValueError as exc:
        raise MalformedEventError("data_not_json", f"data is not JSON: {exc}") from None
    if not isinstance(found, dict):
        raise MalformedEventError("data_not_object", "data must be a JSON object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
