"""Whatever is sent to whatever changes something: refused as a problem, and nothing is stored."""

from __future__ import annotations

import json
import os
from urllib.parse import quote

import pytest
from django.apps import apps
from django.urls import get_resolver
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.access import scopes
from tests.integration.faces import ApiClient

METHODS = ("POST", "PUT", "PATCH", "DELETE")
ROOMS = ("engine", "departments")
#: Not of what was asked for: the trail of acts also tells of those that were refused.
TRAIL = ("Audit",)

#: Texts that are no JSON, or JSON that cannot be stored or understood; `%s` is a name of the body.
POISONS = [
    '{"%s": NaN}',
    '{"%s": -Infinity}',
    '{"%s": 1e999}',
    '{"%s": 1' + "0" * 5000 + "}",
    '{"%s": "a\\u0000b"}',
    '{"a\\u0000b": "%s"}',
    '{"%s": "\\ud800"}',
    '{"\\udfff": "%s"}',
    '{"%s": 1, "%s": 2}',
    '{"%s": ' + "[" * 100 + "]" * 100 + "}",
    '{"%s": ' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"%s": ' + '{"a":' * 70 + "1" + "}" * 70 + "}",
    '{"%s": "' + "x" * 2_500_001 + '"}',
    '{"%s": ',
    '["%s"]',
    '"%s"',
    "null %s",
    "\ufeff\ufeff{%s}",
]
NAMES = ["automation", "input", "username", "password", "refresh", "url", "filter", "reason", "x"]
#: Values of a wrong type, whatever the type that is right.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.lists(st.integers(), max_size=3),
)
SEGMENT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80),
    st.sampled_from(["0", "-1", "1" * 400, "\x00", "%", "\u202e", "٣", "../..", "a\r\nb", "0x1"]),
    st.uuids().map(str),
)


def routes() -> list[tuple[str, str]]:
    """Return (method, path with {} for each of its parts) of all that changes something."""
    known = get_resolver().reverse_dict
    return sorted(
        (method, "/" + template % dict.fromkeys(parts, "{}"))
        for view in known
        if hasattr(view, "cls")
        for template, parts in known[view][0]
        for method in METHODS
        if hasattr(view.cls, method.lower())
    )


def stored() -> dict[str, int]:
    """Return how many rows each table of ours has."""
    return {
        model.__name__: model._default_manager.count()
        for room in ROOMS
        for model in apps.get_app_config(room).get_models()
        if not model.__name__.startswith(TRAIL)
    }


@pytest.fixture
def client(line):
    found = ApiClient(*scopes.WILDCARDS)
    # The first call of an installation makes its signing key.
    assert found.get("/auth/me").status_code == 200
    return found


def sent(client, call, segments, body: bytes, content_type="application/json"):
    method, template = call
    path = template.format(*(quote(segment, safe="") for segment in segments))
    before = stored()
    answer = client.generic(method, path, body, content_type=content_type)
    assert 400 <= answer.status_code < 500, (method, path[:200], answer.status_code, body[:200])
    assert answer["Content-Type"] == "application/problem+json", (method, path[:200])
    problem = json.loads(answer.content)
    assert problem["code"], problem
    assert "Traceback" not in problem["detail"]
    assert stored() == before, (method, path[:200], body[:200])


quietly = settings(
    max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "40")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def parts_of(data, call):
    return [data.draw(SEGMENT) for _ in range(call[1].count("{}"))]


def test_routes__are_all_those_that_change_something():
    found = routes()
    assert len(found) >= 15
    assert {("POST", "/runs"), ("POST", "/auth/token"), ("PATCH", "/runs/{}")} <= set(found)


@quietly
@given(data=st.data())
def test_poison__is_refused_by_every_route(client, data):
    call = data.draw(st.sampled_from(routes()))
    poison = data.draw(st.sampled_from(POISONS))
    name = data.draw(st.sampled_from(NAMES))
    body = poison.replace("%s", name).encode()
    sent(client, call, parts_of(data, call), body)


@quietly
@given(data=st.data())
@example(data=None)
def test_bytes__that_are_no_text_are_refused_by_every_route(client, data):
    if data is None:
        for call in routes():
            if "{}" not in call[1]:
                sent(client, call, [], b"\xff\xfe\x00{")
        return
    call = data.draw(st.sampled_from(routes()))
    body = b"\xff" + data.draw(st.binary(max_size=200))
    kind = data.draw(
        st.sampled_from(
            ["application/json", "text/plain", "multipart/form-data; boundary=x", "x", ""]
        )
    )
    sent(client, call, parts_of(data, call), body, kind)


@quietly
@given(data=st.data())
def test_values__of_wrong_types_are_refused_by_every_route(client, data):
    call = data.draw(st.sampled_from(routes()))
    names = st.one_of(st.sampled_from(NAMES), st.text(st.characters(exclude_categories=["Cs"])))
    document = {**data.draw(st.dictionaries(names, ODD, max_size=5)), "no such field": 1}
    sent(client, call, parts_of(data, call), json.dumps(document).encode())


@quietly
@given(given=st.dictionaries(st.text(max_size=5), ODD, max_size=4), kind=ODD)
def test_run__of_an_input_that_does_not_fit_is_refused_or_sound(client, given, kind):
    """A valid automation with a field too many, or one of a wrong type."""
    document = {"automation": "lab.squares", "input": {**given, "count": [kind], "no field": kind}}
    try:
        body = json.dumps(document).encode()
    except UnicodeEncodeError:
        return
    sent(client, ("POST", "/runs"), [], body)
