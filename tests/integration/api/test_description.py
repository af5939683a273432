"""The API's description of itself: scopes, refusals, and the copy that clients are made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator, FormatChecker

from config import description
from engine.api.problems import MEDIA_TYPE

COMMITTED = Path(__file__).resolve().parents[3] / "clients" / "openapi.json"
#: Calls that need no token.
OPEN = {"signIn", "refreshToken"}


@pytest.fixture(scope="module")
def described():
    return json.loads(COMMITTED.read_text())


def operations(described):
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_description__is_the_committed_one(client, described):
    answered = json.loads(client.get("/openapi.json").content)
    assert answered["paths"].keys() == described["paths"].keys(), "run `make openapi`"
    assert answered == described, "run `make openapi`"


def test_description__is_made_once_and_the_same_whatever_is_asked(client, monkeypatch):
    made, original = [], SchemaGenerator.get_schema

    def counted(self, **given):
        made.append(given)
        return original(self, **given)

    monkeypatch.setattr(SchemaGenerator, "get_schema", counted)
    description.forget()
    first = client.get("/openapi.json")
    for query in ("", "?lang=de", "?lang=%00", "?version=a%0D%0AX-Evil:%20b", "?version=9"):
        answered = client.get(f"/openapi.json{query}")
        assert answered.status_code == 200, query
        assert answered.content == first.content, query
        assert "X-Evil" not in answered
    assert len(made) == 1


def test_description__names_the_scope_that_each_call_needs(described):
    needed = {
        operation["operationId"]: operation.get("security")
        for _path, _method, operation in operations(described)
    }
    assert needed["startRun"] == [{"bearer": ["runs.write"]}]
    assert needed["listRuns"] == [{"bearer": ["runs.read"]}]
    assert needed["whoAmI"] == [{"bearer": []}]
    assert not needed["signIn"]


def test_description__of_each_call_has_every_refusal_as_a_problem_with_an_example(described):
    for path, method, operation in operations(described):
        where = f"{method.upper()} {path}"
        responses = operation["responses"]
        assert {"400", "429", "503"} <= responses.keys(), where
        if operation.get("security"):
            assert {"401", "403"} <= responses.keys(), where
        for status, response in responses.items():
            if status >= "400":
                assert list(response["content"]) == [MEDIA_TYPE], (where, status)
                content = response["content"][MEDIA_TYPE]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, where
                (example,) = content["examples"].values()
                assert example["value"]["status"] == int(status), where
                assert response["description"], (where, status)
        assert operation["summary"], where


#: pydantic's own words for bounds, which no reader of JSON Schema knows.
FOREIGN = {"ge", "gt", "le", "lt", "multiple_of", "strict"}


def test_description__bounds_numbers_in_words_of_json_schema(described):
    open_values, found = [("", described)], []
    while open_values:
        place, value = open_values.pop()
        if isinstance(value, dict):
            found += [f"{place}/{key}" for key in FOREIGN & value.keys()]
            open_values += [(f"{place}/{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            open_values += [(f"{place}/{n}", inner) for n, inner in enumerate(value)]
    assert not found
    schemas = described["components"]["schemas"]
    limit = schemas["BulkDeadLetters"]["properties"]["limit"]
    assert (limit["minimum"], limit["maximum"]) == (1, 1000)
    priority = schemas["RunRequest"]["properties"]["priority"]
    assert (priority["minimum"], priority["maximum"]) == (-100, 100)


def bodies(described):
    """Every JSON or form body that is sent, and every JSON one that is answered in success."""
    for path, method, operation in operations(described):
        where = f"{method.upper()} {path}"
        sent = operation.get("requestBody", {}).get("content", {})
        for media_type, content in sent.items():
            yield f"{where} {media_type}", content
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                if status < "300" and media_type == "application/json":
                    yield f"{where} {status}", content


def test_description__shows_an_example_of_each_body_that_fits_its_schema(described):
    found = list(bodies(described))
    assert len(found) > 60
    for where, content in found:
        schema = {"components": described["components"], **content["schema"]}
        judge = Draft202012Validator(schema, format_checker=FormatChecker())
        assert content.get("examples"), f"{where} has no example"
        for example in content["examples"].values():
            wrong = [error.message for error in judge.iter_errors(example["value"])]
            assert wrong == [], where


def test_description__leaves_nothing_out_of_its_answers(described):
    """Where an answer has fields, its example shows each: a reader sees all there is."""
    schemas = described["components"]["schemas"]
    for where, content in bodies(described):
        form = content["schema"].get("$ref", "").rpartition("/")[2]
        if where.split()[-1].isdigit():
            (example,) = content["examples"].values()
            assert example["value"].keys() == schemas[form]["properties"].keys(), where
