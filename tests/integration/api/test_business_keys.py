"""`dedupe_key`: what is asked for again is there already, as long as the run of it counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connections
from django.utils import timezone

from engine import runs
from engine.models import Run
from tests.integration.faces import ApiClient, work

SQUARES = {"automation": "lab.squares", "input": {"count": 2}}


def test_start__with_a_used_dedupe_key_answers_200_with_the_same_run(api, line):
    first = api.send("/runs", {**SQUARES, "dedupe_key": "k"})
    second = api.send("/runs", {**SQUARES, "dedupe_key": "k"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


def test_start__counts_no_run_that_is_older_than_the_window(api, line):
    asked = {**SQUARES, "dedupe_key": "k", "window": 60}
    first = api.send("/runs", asked).json()
    assert api.send("/runs", asked).json()["id"] == first["id"]
    Run.objects.update(created_at=timezone.now() - timedelta(seconds=61))
    later = api.send("/runs", asked)
    assert (later.status_code, later.json()["id"] == first["id"]) == (201, False)
    assert api.send("/runs", asked).json()["id"] == later.json()["id"]
    assert api.send("/runs", {**SQUARES, "dedupe_key": "k"}).json()["id"] == later.json()["id"]
    keys = {run["id"]: run["dedupe_key"] for run in api.get("/runs").json()["results"]}
    assert keys == {first["id"]: "k", later.json()["id"]: "k"}


def test_start__counts_no_run_that_has_ended(api, line):
    asked = {**SQUARES, "dedupe_key": "k", "until_terminal": True}
    first = api.send("/runs", asked).json()
    assert api.send("/runs", asked).json()["id"] == first["id"]
    runs.cancel(run_id=UUID(first["id"]), actor="test")
    assert api.send("/runs", {**SQUARES, "dedupe_key": "k"}).status_code == 200
    later = api.send("/runs", asked)
    assert (later.status_code, later.json()["id"] == first["id"]) == (201, False)
    assert api.get(f"/runs/{first['id']}").json()["dedupe_key"] == "k"


def test_retry__of_a_run_whose_key_went_on_waits_for_the_later_one(api, line):
    asked = {"automation": "lab.fragile_fail", "input": {"folder": "/nowhere"}}
    asked |= {"dedupe_key": "k", "until_terminal": True}
    first = UUID(api.send("/runs", asked).json()["id"])
    work(line)
    assert api.get(f"/runs/{first}").json()["state"] == "failed"
    later = UUID(api.send("/runs", asked).json()["id"])
    assert later != first
    refused = api.send(f"/runs/{first}/retry", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")
    assert "business key" in refused.json()["detail"]
    runs.cancel(run_id=later, actor="test")
    assert api.send(f"/runs/{first}/retry", {}).status_code == 200
    again = api.send("/runs", asked)
    assert (again.status_code, again.json()["id"]) == (200, str(first)), "it lives, and has its key"
    assert api.get(f"/runs/{later}").json()["dedupe_key"] == "k"


def test_start__of_many_that_find_the_run_ended_one_starts_another(api, line):
    asked = {**SQUARES, "dedupe_key": "k", "until_terminal": True}
    ended = api.send("/runs", asked).json()["id"]
    runs.cancel(run_id=UUID(ended), actor="test")

    def ask(_):
        try:
            return ApiClient().send("/runs", asked)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(24)))
    assert sorted(answer.status_code for answer in answers) == [200] * 23 + [201]
    assert len({answer.json()["id"] for answer in answers} - {ended}) == 1
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"window": 60}, "/dedupe_key"),
        ({"until_terminal": True}, "/dedupe_key"),
        ({"dedupe_key": "k", "window": 60, "until_terminal": True}, "/window"),
        ({"dedupe_key": "k", "window": 0}, "/window"),
        ({"dedupe_key": "k", "window": "60"}, "/window"),
        ({"dedupe_key": "k", "until_terminal": 1}, "/until_terminal"),
    ],
)
def test_start__refuses_a_policy_that_says_nothing(api, line, said, pointer):
    response = api.send("/runs", {**SQUARES, **said})
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == pointer
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    "key", ["schedule:1:2026-12-01T02:30:00+00:00", "hook:1:m", "event:1-0", "stream:1-0"]
)
def test_start__refuses_a_key_under_which_the_engine_would_start_a_run(api, line, key):
    response = api.send("/runs", {**SQUARES, "dedupe_key": key})
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/dedupe_key"
    assert "must not begin with" in response.json()["detail"]
    assert api.send("/runs", {**SQUARES, "dedupe_key": f"my-{key}"}).status_code == 201
