"""Bulk forms: a preview changes nothing; each of the found is acted on by itself."""

from __future__ import annotations

import pytest

from engine import runs as doors
from engine.errors import StateConflictError
from engine.models import DeadLetter, Run
from tests.integration.faces import ApiClient, work

SQUARES = {"automation": "lab.squares", "input": {"count": 2}}


def start(api, **more):
    return api.send("/runs", {**SQUARES, **more}).json()["id"]


@pytest.fixture
def letters(api, line, tmp_path):
    """Two runs with a dead step each."""
    for _ in range(2):
        api.send("/runs", {"automation": "lab.fragile", "input": {"folder": str(tmp_path)}})
    work(line)
    found = list(DeadLetter.objects.filter(state="open").order_by("id"))
    assert len(found) == 2
    return found


def test_cancel__previews_and_changes_nothing(api, line):
    mine, other = start(api, tags=["spring"]), start(api)
    body = api.send("/runs/cancel", {"filter": {"tag": "spring"}}).json()
    assert [run["id"] for run in body["results"]] == [mine]
    assert (body["applied"], body["matched"], body["more"], body["done"]) == (False, 1, False, [])
    assert set(Run.objects.values_list("state", flat=True)) == {"pending"}
    assert {str(run.id) for run in Run.objects.all()} == {mine, other}


def test_cancel__with_apply_cancels_what_matches_and_has_not_ended(api, line):
    mine, other = start(api, tags=["spring"]), start(api)
    ended = start(api, tags=["spring"])
    assert api.send(f"/runs/{ended}/cancel").status_code == 200
    body = api.send("/runs/cancel", {"filter": {"tag": "spring"}, "apply": True}).json()
    assert (body["applied"], body["done"], body["refused"]) == (True, [mine], [])
    assert api.get(f"/runs/{mine}").json()["state"] == "cancelled"
    assert api.get(f"/runs/{other}").json()["state"] == "pending"
    (event,) = [
        event
        for event in api.get(f"/runs/{mine}/events").json()["results"]
        if event["kind"] == "run.cancel_requested"
    ]
    assert event["actor"] == "tester"


def test_cancel__takes_the_newest_up_to_the_limit_and_says_that_more_match(api, line):
    started = [start(api, correlation_id="order-7") for _ in range(3)]
    asked = {"filter": {"correlation_id": "order-7"}, "apply": True, "limit": 2.0}
    first = api.send("/runs/cancel", asked).json()
    assert (first["done"], first["more"]) == ([started[2], started[1]], True)
    second = api.send("/runs/cancel", asked).json()
    assert (second["done"], second["more"]) == ([started[0]], False)
    assert api.send("/runs/cancel", asked).json()["matched"] == 0


def test_cancel__as_of_the_preview_leaves_newer_runs_alone(api, line):
    old = start(api)
    looked = api.send("/runs/cancel", {"filter": {"department": "lab"}}).json()["as_of"]
    start(api)
    asked = {"filter": {"department": "lab", "created_before": looked}, "apply": True}
    assert api.send("/runs/cancel", asked).json()["done"] == [old]


def test_cancel__one_that_ends_meanwhile_is_told_and_holds_up_none(api, line, monkeypatch):
    first, second = start(api), start(api)
    cancel = doors.cancel

    def refuse(*, run_id, actor):
        if str(run_id) == second:
            raise StateConflictError("The run", wanted="cancel it", actual="succeeded")
        cancel(run_id=run_id, actor=actor)

    monkeypatch.setattr(doors, "cancel", refuse)
    body = api.send("/runs/cancel", {"filter": {"department": "lab"}, "apply": True}).json()
    assert body["done"] == [first]
    (refused,) = body["refused"]
    assert (refused["id"], refused["code"]) == (second, "state_conflict")
    assert "succeeded" in refused["detail"]


def test_requeue__of_many_dead_letters(api, line, letters):
    asked = {"filter": {"automation": "lab.fragile"}}
    preview = api.send("/dead-letters/requeue", asked).json()
    assert sorted(row["id"] for row in preview["results"]) == [row.pk for row in letters]
    assert DeadLetter.objects.filter(state="open").count() == 2
    body = api.send("/dead-letters/requeue", asked | {"apply": True}).json()
    assert sorted(body["done"]) == [row.pk for row in letters]
    assert {run.state for run in Run.objects.all()} == {"running"}
    assert api.send("/dead-letters/requeue", asked | {"apply": True}).json()["matched"] == 0


def test_discard__of_those_of_one_run(api, line, letters):
    asked = {"filter": {"run_id": str(letters[0].run_id)}, "apply": True}
    assert api.send("/dead-letters/discard", asked).json()["done"] == [letters[0].pk]
    states = dict(DeadLetter.objects.values_list("pk", "state"))
    assert states == {letters[0].pk: "discarded", letters[1].pk: "open"}


def test_requeue__by_error_code(api, line, letters):
    DeadLetter.objects.filter(pk=letters[0].pk).update(error_code="odd")
    asked = {"filter": {"error_code": "odd"}}
    found = api.send("/dead-letters/requeue", asked).json()["results"]
    assert [row["id"] for row in found] == [letters[0].pk]
    assert api.get("/dead-letters?error_code=odd").json()["results"] == found


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/runs/cancel", {}, "filter"),
        ("/runs/cancel", {"filter": {}}, "names nothing"),
        ("/runs/cancel", {"filter": {"colour": "red"}}, "known: state"),
        ("/runs/cancel", {"filter": {"state": "succeeded"}}, "'pending', 'running'"),
        ("/runs/cancel", {"filter": {"state": None}}, "names nothing"),
        ("/runs/cancel", {"filter": {"department": "lab", "tag": None}}, "/filter/tag: null"),
        ("/dead-letters/discard", {"filter": {"department": None, "error_code": "x"}}, "null"),
        ("/runs/cancel", {"filter": {"created_before": 1764000000}}, "written as 2026-"),
        ("/runs/cancel", {"filter": {"department": "lab"}, "apply": "yes"}, "/apply"),
        ("/runs/cancel", {"filter": {"department": "lab"}, "limit": 0}, "/limit"),
        ("/runs/cancel", {"filter": {"department": "lab"}, "limit": 1001}, "/limit"),
        ("/runs/cancel", {"filter": {"tag": "\x00"}}, "NUL"),
        ("/dead-letters/requeue", {"filter": {}}, "names nothing"),
        ("/dead-letters/requeue", {"filter": {"state": "open"}}, "unknown"),
        ("/dead-letters/discard", {"filter": {"run_id": "1"}}, "/filter/run_id"),
        ("/dead-letters/discard", [], "JSON object"),
    ],
)
def test_bulk__refuses_what_it_does_not_understand(api, line, path, body, word):
    start(api)
    response = api.post(path, data=body, content_type="application/json")
    assert response.status_code == 400, response.content
    assert word in response.json()["detail"]
    assert set(Run.objects.values_list("state", flat=True)) == {"pending"}


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/runs/cancel", "runs.write"),
        ("/dead-letters/requeue", "dead_letters.write"),
        ("/dead-letters/discard", "dead_letters.write"),
    ],
)
def test_bulk__needs_its_scope(line, path, scope):
    reader = ApiClient("runs.read", "dead_letters.read")
    response = reader.send(path, {"filter": {"department": "lab"}, "apply": True})
    assert (response.status_code, response.json()["scope"]) == (403, scope)


def test_bulk__reaches_the_departments_in_which_the_scope_is_held_and_no_others(
    api, line, tmp_path
):
    mine = start(api)
    api.send("/runs", {"automation": "lab.fragile", "input": {"folder": str(tmp_path)}})
    Run.objects.exclude(pk=mine).update(department="finance")
    limited = ApiClient("lab:runs.write", "finance:runs.read", "lab:dead_letters.write")
    asked = {"filter": {"state": "pending"}, "apply": True}
    assert limited.send("/runs/cancel", asked).json()["done"] == [mine]
    other = {"filter": {"department": "finance"}, "apply": True}
    assert limited.send("/runs/cancel", other).json()["matched"] == 0
    work(line)
    DeadLetter.objects.update(department="finance")
    found = limited.send("/dead-letters/requeue", {"filter": {"automation": "lab.fragile"}}).json()
    assert found["matched"] == 0


def test_bulk__shows_no_payload_without_its_scope(api, line, letters):
    bare = ApiClient("dead_letters.write")
    (first, _) = bare.send(
        "/dead-letters/requeue", {"filter": {"automation": "lab.fragile"}}
    ).json()["results"]
    assert (first["payloads_hidden"], first["error"]["message"]) == (True, None)
