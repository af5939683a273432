"""The form that is digested: anybody must get the same from what `audit export` prints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

from engine.audit import canonical

AT = datetime(2026, 11, 30, 4, 5, 6, 7, tzinfo=UTC)


def row(**changes):
    members = dict.fromkeys(canonical.MEMBERS, "x")
    more = {"id": 1, "at": AT, "before": None, "after": {"b": 1, "a": "ü\n"}, "transaction_id": 7}
    return SimpleNamespace(**members | more | changes)


def test_encoded__is_sorted_dense_and_utf_8():
    assert canonical.encoded({"b": [1, True, None], "a": 'ü\n"'}) == (
        '{"a":"ü\\n\\"","b":[1,true,null]}'.encode()
    )


def test_moment__is_utc_with_microseconds_whatever_the_zone():
    assert canonical.moment(AT) == "2026-11-30T04:05:06.000007Z"
    there = AT.replace(microsecond=0).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert canonical.moment(there) == "2026-11-30T04:05:06.000000Z"


def test_digest__changes_with_every_member():
    base = canonical.digest(canonical.record(row()))
    for name in canonical.MEMBERS:
        other = AT + timedelta(microseconds=1) if name == "at" else 2
        assert canonical.digest(canonical.record(row(**{name: other}))) != base, name


def test_chained__depends_on_number_moment_predecessor_and_every_record_in_order():
    given = {"number": 2, "at": AT, "previous": "p", "digests": [(1, "a"), (2, "b")]}
    base = canonical.chained(**given)
    changes = [
        {"number": 3},
        {"at": AT + timedelta(microseconds=1)},
        {"previous": "q"},
        {"digests": [(2, "b"), (1, "a")]},
        {"digests": [(1, "a")]},
        {"digests": [(1, "a"), (2, "c")]},
    ]
    assert len({base, *(canonical.chained(**given | change) for change in changes)}) == 7
