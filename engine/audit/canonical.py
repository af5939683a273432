"""The one form in which records and seals are digested. Pure: anybody can compute it again.

A record's digest is SHA-256 of its members as JSON after RFC 8785 (members sorted, no spaces,
UTF-8; numbers are whole). A seal's digest is SHA-256 of its number, moment, predecessor's digest
and the list of (record id, record digest) in the same form.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What a record consists of, in the order of the table; all of it is digested.
MEMBERS = (
    *("id", "at", "source", "actor", "action", "outcome", "object_kind", "object_id"),
    *("address", "request_id", "before", "after", "transaction_id"),
)
#: What the first seal names as its predecessor.
GENESIS = "0" * 64


def moment(at: datetime) -> str:
    """Return a moment as it is digested: UTC, microseconds, `Z`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def record(row: Any) -> dict[str, Any]:
    """Return the members of a record, from anything that has them as attributes."""
    found = {name: getattr(row, name) for name in MEMBERS}
    return found | {"at": moment(found["at"])}


def seal(row: Any) -> dict[str, Any]:
    """Return the members of a seal, from anything that has them as attributes."""
    return {
        "number": row.number,
        "at": moment(row.at),
        "previous": row.previous,
        "digest": row.digest,
        "record_ids": list(row.record_ids),
    }


def encoded(document: Any) -> bytes:
    """Return a JSON value in the form that is digested."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(document: Mapping[str, Any]) -> str:
    """Return the digest of a record's members, in hexadecimal."""
    return hashlib.sha256(encoded(document)).hexdigest()


def chained(*, number: int, at: datetime, previous: str, digests: Sequence[tuple[int, str]]) -> str:
    """Return the digest of a seal over its records' (id, digest), in hexadecimal."""
    sealed = {
        "number": number,
        "at": moment(at),
        "previous": previous,
        "records": [list(pair) for pair in digests],
    }
    return hashlib.sha256(encoded(sealed)).hexdigest()
