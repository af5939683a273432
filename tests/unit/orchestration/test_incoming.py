from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration import incoming

REQUEST = {b"event_type": b"automation.run.requested", b"automation": b"lab.squares"}


def parsed(**fields: bytes):
    return incoming.parse(
        entry_id="5-1", fields=REQUEST | {name.encode(): value for name, value in fields.items()}
    )


def test_parse__the_shortest_request():
    assert parsed() == incoming.RunRequest("lab.squares", {}, "stream:5-1", "", "")


def test_parse__data_correlation_and_the_producers_id():
    found = parsed(data=b'{"count": 3}', correlation_id=b"abc", event_id=b"order-7")
    assert found == incoming.RunRequest("lab.squares", {"count": 3}, "event:order-7", "abc", "")


def test_parse__the_producers_trace():
    sound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert parsed(traceparent=sound.encode()).traceparent == sound
    assert parsed(traceparent=b"rubbish").traceparent == ""


def test_parse__intent_of_old_producers():
    fields = {b"event_type": b"automation.run.requested", b"intent": b"lab.squares"}
    assert incoming.parse(entry_id="5-1", fields=fields).automation == "lab.squares"


@pytest.mark.parametrize("event_type", sorted(incoming.OUTGOING))
def test_parse__our_own_events_are_no_requests(event_type):
    assert incoming.parse(entry_id="1-1", fields={b"event_type": event_type.encode()}) is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "event_type_missing"),
        ({b"event_type": b"automation.run.wished"}, "event_type_unknown"),
        ({b"event_type": b"automation.run.requested"}, "automation_missing"),
        (REQUEST | {b"automation": b"  "}, "automation_missing"),
        (REQUEST | {b"automation": b"\xff\xfe"}, "not_utf8"),
        (REQUEST | {b"\xff": b"x"}, "not_utf8"),
        (REQUEST | {b"data": b"{"}, "data_not_json"),
        (REQUEST | {b"data": b"[" * 100_000}, "data_not_json"),
        (REQUEST | {b"data": b'{"a": NaN}'}, "data_not_json"),
        (REQUEST | {b"data": b'{"a": ' + b"9" * 5_000 + b"}"}, "data_not_json"),
        (REQUEST | {b"data": b"[1]"}, "data_not_object"),
        (REQUEST | {b"data": b"\xff"}, "not_utf8"),
        (REQUEST | {b"data": b'{"a": "' + b"x" * 1_000_000 + b'"}'}, "data_too_large"),
        (REQUEST | {b"event_id": b"x" * 201}, "too_long"),
        (REQUEST | {b"event_id": b"a\x00b"}, "nul_character"),
        (REQUEST | {b"correlation_id": b"x" * 101}, "too_long"),
    ],
)
def test_parse__refuses_with_a_code(fields, code):
    with pytest.raises(incoming.MalformedEventError) as caught:
        incoming.parse(entry_id="1-1", fields=fields)
    assert caught.value.code == code
    assert caught.value.reason


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=50), max_size=5))
def test_parse__nothing_but_a_refusal_comes_out_of_garbage(fields):
    with contextlib.suppress(incoming.MalformedEventError):
        found = incoming.parse(entry_id="1-1", fields=REQUEST | fields)
        assert found is None or isinstance(found.input, dict)
