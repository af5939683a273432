"""Events that the manager refused: read, sent again and given up where they lie, `automation.dlq`.

The stream also mirrors dead letters, whose truth are rows; those entries are left alone here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.audit import trail
from engine.errors import InputInvalidError, NotFoundError
from orchestration import incoming, streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: What `streams.refuse` adds; an original field of the same name carries `original_` before it.
ADDED = (b"reason", b"error_code", b"source_stream", b"source_entry_id", b"refused_at")
PREFIX = b"original_"
#: Entries read at once while looking through the stream.
PAGE = 500

# KEYS[1] the dead letter stream, KEYS[2] the events; ARGV[1] the entry, ARGV[2] how many entries
# the events keep, then the fields. Once: an entry that is gone is not sent. Sent, then deleted:
# Redis takes nothing back when a script fails, and it fails at 8,000 words or without memory.
SEND_AGAIN = """
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return false
end
local sent = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 3))
redis.call('XDEL', KEYS[1], ARGV[1])
return sent
"""


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that became no run; `fields` are its own, as they came."""

    id: str
    error_code: str
    reason: str
    refused_at: str
    source_entry_id: str
    fields: dict[bytes, bytes]

    @property
    def shown(self) -> dict[str, str]:
        """Return the fields as text; bytes that are none are spelled out."""
        return {_text(name): _text(value) for name, value in self.fields.items()}

    @property
    def automation(self) -> str:
        """Return the automation that was asked for, if any was."""
        shown = self.shown
        return shown.get("automation") or shown.get("intent") or ""

    @property
    def document(self) -> dict[str, Any]:
        """Return all of it as JSON can say it."""
        return {
            "id": self.id,
            "error": {"code": self.error_code, "message": self.reason},
            "refused_at": self.refused_at,
            "source_entry_id": self.source_entry_id,
            "fields": self.shown,
        }


def newest(
    *,
    limit: int,
    error_code: str | None = None,
    department: str | None = None,
    automation: str | None = None,
) -> list[RefusedEvent]:
    """Return refused events, the newest first."""
    found = (
        event
        for event in _all()
        if error_code in (None, event.error_code)
        and department in (None, event.shown.get("department"))
        and automation in (None, event.automation)
    )
    return list(itertools.islice(found, limit))


def one(*, entry_id: str) -> RefusedEvent:
    """Return a refused event, or NotFoundError."""
    reply: Any = streams.client().xrange(streams.DLQ, min=entry_id, max=entry_id)
    found = _refused(*reply[0]) if reply else None
    if found is None:
        raise NotFoundError(f"There is no refused event {entry_id} in {streams.DLQ}")
    return found


def mended(event: RefusedEvent, changes: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return the event's fields with changes; an empty value takes the field away.

    Raises InputInvalidError when it would be refused again as it is.
    """
    given = {name.encode(): value.encode() for name, value in changes.items()}
    fields = {
        name: value for name, value in (event.fields | given).items() if value or name not in given
    }
    try:
        incoming.parse(entry_id=event.id, fields=fields)
    except incoming.MalformedEventError as exc:
        raise InputInvalidError(
            f"Event {event.id} would be refused again: {exc.reason}",
            problems=[{"field": "", "reason": f"event {event.id} is still refused: {exc.reason}"}],
        ) from exc
    return fields


def requeue(event: RefusedEvent, fields: Mapping[bytes, bytes]) -> str:
    """Send an event again with these fields, and take it off the dead letter stream.

    Return the new entry's id. Raises NotFoundError when somebody else was first.
    """
    # Before, because Redis knows nothing of our transaction: never done and not recorded.
    trail.record("event.requeue", kind="event", id=event.id, after={"to": streams.EVENTS})
    words = [word for pair in fields.items() for word in pair]
    sent: Any = streams.client().register_script(SEND_AGAIN)(
        keys=[streams.DLQ, streams.EVENTS], args=[event.id, streams.EVENTS_MAX_LENGTH, *words]
    )
    if sent is None:
        raise NotFoundError(f"There is no refused event {event.id} in {streams.DLQ} any more")
    return str(sent.decode())


def discard(event: RefusedEvent) -> None:
    """Give an event up: it is deleted; raises NotFoundError when somebody else was first."""
    trail.record("event.discard", kind="event", id=event.id, before={"reason": event.error_code})
    if not streams.client().xdel(streams.DLQ, event.id):
        raise NotFoundError(f"There is no refused event {event.id} in {streams.DLQ} any more")


def _all() -> Iterator[RefusedEvent]:
    last = "+"
    while True:
        page: Sequence[Any] = streams.client().xrevrange(streams.DLQ, max=last, count=PAGE)  # type: ignore[assignment]
        yield from (found for entry in page if (found := _refused(*entry)) is not None)
        if len(page) < PAGE:
            return
        last = f"({page[-1][0].decode()}"


def _refused(entry_id: bytes, fields: dict[bytes, bytes]) -> RefusedEvent | None:
    if b"source_entry_id" not in fields or b"error_code" not in fields:
        return None
    own = {
        name.removeprefix(PREFIX) if name.removeprefix(PREFIX) in ADDED else name: value
        for name, value in fields.items()
        if name not in ADDED
    }
    return RefusedEvent(
        id=entry_id.decode(),
        error_code=_text(fields[b"error_code"]),
        reason=_text(fields.get(b"reason", b"")),
        refused_at=_text(fields.get(b"refused_at", b"")),
        source_entry_id=_text(fields[b"source_entry_id"]),
        fields=own,
    )


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
