"""Payload is apart from metadata: who may see that runs go on need not see what they are about."""

from __future__ import annotations

import json
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import departments
import engine
from engine import representations
from engine.disclosure import Disclosed
from engine.models import Artifact, DeadLetter
from tests.integration.faces import ApiClient, work

METADATA = ("runs.read", "dead_letters.read", "departments.read")
SECRET = "only-for-the-eyes-of-finance"


@pytest.fixture
def onlooker():
    return ApiClient(*METADATA)


@pytest.fixture
def run(api, line):
    body = {"automation": "courier.letter", "input": {"address": SECRET}}
    found = api.send("/runs", body).json()
    work(line)
    return found["id"]


def test_run__shows_payload_to_whom_may_see_it(api, run):
    body = api.get(f"/runs/{run}").json()
    assert (body["input"], body["output"], body["payloads_hidden"]) == (
        {"address": SECRET},
        SECRET,
        False,
    )


def test_run__shows_others_that_it_went_on(onlooker, run):
    body = onlooker.get(f"/runs/{run}").json()
    assert (body["input"], body["output"], body["payloads_hidden"]) == (None, None, True)
    assert (body["state"], body["progress"]["percent"]) == ("succeeded", 100.0)


def test_run__shows_payload_of_the_departments_it_may_be_seen_of(line):
    bodies = [{"automation": "courier.letter"}, {"automation": "lab.squares"}]
    ids = [ApiClient().send("/runs", body).json()["id"] for body in bodies]
    client = ApiClient("runs.read", "lab:runs.payloads")
    assert [client.get(f"/runs/{one}").json()["payloads_hidden"] for one in ids] == [True, False]
    listed = {run["id"]: run["payloads_hidden"] for run in client.get("/runs").json()["results"]}
    assert listed == dict(zip(ids, [True, False], strict=True))


def test_failure__is_shown_by_code_and_its_message_is_payload(api, onlooker, line, tmp_path):
    body = {"automation": "lab.fragile_fail", "input": {"folder": str(tmp_path)}}
    run = api.send("/runs", body).json()["id"]
    work(line)
    letter = DeadLetter.objects.get().pk
    places = ["/runs", f"/runs/{run}", f"/runs/{run}/steps", f"/dead-letters/{letter}"]
    places += ["/dead-letters", f"/runs/{run}/events", f"/runs/{run}/why"]
    for place in places:
        assert "mended" not in onlooker.get(place).content.decode(), place
    assert onlooker.get(f"/runs/{run}").json()["error"]["code"]
    letters = onlooker.get("/dead-letters").json()["results"]
    assert letters[0]["error"] == {"code": "broken", "message": None}
    assert "mended" in api.get("/dead-letters").content.decode()
    steps = onlooker.get(f"/runs/{run}/steps").json()["results"]
    assert {"code": "broken", "message": None} in [step["error"] for step in steps]


def test_events__are_shown_without_their_data(api, onlooker, run):
    shown = onlooker.get(f"/runs/{run}/events").json()["results"]
    assert {event["data"] for event in shown} == {None}
    assert [event["kind"] for event in shown] == [
        event["kind"] for event in api.get(f"/runs/{run}/events").json()["results"]
    ]


def test_artifact__is_listed_and_not_opened(api, onlooker, run):
    from engine import artifacts  # noqa: PLC0415 - models need settings

    artifacts.store(name="a.txt", content=b"hello", media_type="text/plain")
    Artifact.objects.update(run_id=run)
    (shown,) = onlooker.get(f"/runs/{run}/artifacts").json()["results"]
    assert (shown["name"], shown["size"], shown["sha256"]) == ("a.txt", 5, None)
    assert onlooker.get(shown["url"]).status_code == 403
    assert api.get(f"/runs/{run}/artifacts").json()["results"][0]["sha256"]


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_steering__shows_the_steerer_no_payload_either(api, line, verb):
    run = api.send("/runs", {"automation": "lab.squares"}).json()["id"]
    steerer = ApiClient("runs.read", "runs.write")
    for _ in range(2):  # the second time as a conflict
        answered = steerer.post(f"/runs/{run}/{verb}").json()
        assert answered.get("current", answered)["input"] is None


def test_replay__shows_what_its_caller_may_see_now(line):
    def start(*scopes):
        return ApiClient(*scopes).post(
            "/runs",
            {"automation": "courier.letter", "input": {"address": SECRET}},
            content_type="application/json",
            headers={"idempotency-key": "k-1"},
        )

    first, again = start("runs.*"), start("runs.read", "runs.write")
    assert (first.json()["input"], again.json()["input"]) == ({"address": SECRET}, None)
    assert (again.json()["id"], again["Idempotent-Replayed"]) == (first.json()["id"], "true")
    assert SECRET not in again.content.decode()


#: Fields that may hold anything, and hold no payload: why.
NO_PAYLOAD = {
    "Cause.details": "facts of the engine about waiting",
    "WhyEntry.details": "facts of the engine about waiting",
    "AutomationDetail.input_schema": "what an input looks like",
}


def test_forms__name_every_field_that_could_hold_payload():
    """A form with a field of any content declares it payload, or is listed above with a reason."""
    loose = {}
    for form in forms_of(engine, departments):
        for name, field in form.model_fields.items():
            if not holds_anything(field.annotation):
                continue
            named = form.payloads if issubclass(form, Disclosed) else ()
            if not any(place.partition(".")[0] == name for place in named):
                loose[f"{form.__name__}.{name}"] = form
    assert loose.keys() == NO_PAYLOAD.keys()


def forms_of(*rooms):
    found = set()
    for room in rooms:
        for module in walk_packages(room.__path__, f"{room.__name__}."):
            if module.name.endswith("representations"):
                members = vars(import_module(module.name)).values()
                found |= {one for one in members if isinstance(one, type)}
    return [one for one in found if issubclass(one, BaseModel)]


def holds_anything(annotation) -> bool:
    if annotation in {Any, object, dict, representations.Failure}:
        return True
    return any(holds_anything(part) for part in get_args(annotation))


def test_description__names_the_marker(api, db):
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    marked = [name for name, schema in schemas.items() if "payloads_hidden" in json.dumps(schema)]
    assert {"RunDetail", "DeadLetterEntry"} <= set(marked)
