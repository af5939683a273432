"""`Idempotency-Key`: what was asked for once is done once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.db.models import F

from departments.models import Automation
from engine import definitions, runs, selectors, sql
from engine.api import idempotency, submissions
from engine.models import Artifact, AutomationVersion, IdempotentAnswer, Run
from tests.catalog.lab import _dsn
from tests.integration.faces import ApiClient, token, work

SQUARES = {"automation": "lab.squares", "input": {"count": 2}}
OTHER = {"automation": "lab.squares", "input": {"count": 3}}


def start(api, body=SQUARES, *, key="k-1"):
    return api.post(
        "/runs", body, content_type="application/json", headers={"idempotency-key": key}
    )


def test_start__again_under_its_key_is_answered_alike_and_does_nothing(api, line):
    first = start(api)
    work(line)
    again = start(api)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json(), "as it was answered, though the run has ended since"
    assert again["Location"] == first["Location"]
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert Run.objects.count() == 1


def test_start__is_the_same_request_however_it_is_written(api, line):
    first = start(api)
    written = json.dumps(
        {"priority": 0, "input": {"count": 2}, "automation": "lab.squares"}, indent=3
    )
    assert start(api, written).json() == first.json()


def test_start__that_an_older_version_answered_is_replayed(api, line):
    first = start(api)
    stored = IdempotentAnswer.objects.get()
    # As it was stored before a run told its trace, and a request could say `window`.
    stored.body.pop("traceparent")
    stored.save()
    again = start(api)
    assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
    assert again.json() == first.json()
    assert "window" not in submissions.RunRequest(**SQUARES).fingerprinted


def test_start__of_something_else_under_a_used_key_is_422(api, line):
    start(api)
    refused = start(api, OTHER)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert Run.objects.count() == 1


def test_start__under_a_key_that_is_being_answered_is_409(api, line):
    name = json.dumps({"subject": "tester", "call": "POST /runs", "key": "k-1"})
    with psycopg.connect(_dsn()) as other:
        other.execute(idempotency.LOCK, {"room": idempotency.ROOM, "name": name})
        refused = start(api)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_key_in_use")
    assert refused["Retry-After"] == "1"
    assert not Run.objects.exists()
    assert start(api).status_code == 201


def test_start__by_many_at_once_under_one_key_starts_one_run(line):
    def ask(_):
        try:
            return start(ApiClient()).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(ask, range(24)))
    assert found <= {201, 409}
    assert Run.objects.count() == 1


def test_start__that_fails_half_way_leaves_its_key_free_and_nothing_behind(api, line, monkeypatch):
    def fail(*, run_id):
        raise RuntimeError(run_id)

    monkeypatch.setattr(selectors, "run", fail)
    assert start(api).status_code == 500
    assert not Run.objects.exists()
    assert not line.messages, "nobody is told of a run that was never stored"
    monkeypatch.undo()
    assert start(api).status_code == 201


def test_start__that_was_refused_leaves_its_key_free(api, line):
    assert start(api, {"automation": "lab.squares", "input": {"count": -1}}).status_code == 400
    assert start(api).status_code == 201


def test_key__is_its_callers_own(api, line):
    mine = start(api).json()["id"]
    other = ApiClient()
    other.bearer = token("runs.*", subject="somebody-else")
    assert start(other).json()["id"] != mine


@pytest.mark.parametrize("key", ["", "two words", "ä", "k" * 256, "k\x01"])
def test_key__that_is_none_is_refused(api, line, key):
    refused = start(api, key=key)
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["pointer"] == "Idempotency-Key"
    assert not Run.objects.exists()


def test_key__is_forgotten_after_its_time(api, line):
    start(api)
    IdempotentAnswer.objects.update(expires_at=F("expires_at") - timedelta(hours=25))
    start(api, key="k-2")
    assert list(IdempotentAnswer.objects.values_list("key", flat=True)) == ["k-2"]
    assert start(api, OTHER).status_code == 201


def test_start__as_a_form_is_the_same_request_when_its_file_is_the_same(api, line):
    def send(content, name="ledger.csv"):
        file = SimpleUploadedFile(name, content, "text/csv")
        form = {"automation": "finance.cashflow_report", "ledger": file}
        return api.post("/runs", form, headers={"idempotency-key": "k-1"})

    first, again, renamed, other = (
        send(b"one"), send(b"one"), send(b"one", "again.csv"), send(b"two")
    )  # fmt: skip
    assert [one.status_code for one in (first, again, renamed, other)] == [201, 201, 201, 422]
    assert again.json() == renamed.json() == first.json()
    assert Artifact.objects.count() == 1, "a replay keeps no file"


def test_start__again_after_its_deadline_is_answered_alike(api, line, monkeypatch):
    deadline = datetime.now(UTC) + timedelta(hours=1)
    first = start(api, {**SQUARES, "deadline_at": deadline.isoformat()})
    elsewhere = deadline.astimezone(timezone(timedelta(hours=5)))
    monkeypatch.setattr(submissions.timezone, "now", lambda: deadline + timedelta(hours=1))
    again = start(api, {**SQUARES, "deadline_at": elsewhere.isoformat()})
    assert (again.status_code, again.json()) == (201, first.json())
    late = start(api, {**SQUARES, "deadline_at": deadline.isoformat()}, key="k-2")
    assert (late.status_code, late.json()["errors"][0]["pointer"]) == (400, "/deadline_at")


def test_start__rolled_back_remembers_no_version_that_is_not_there(api, line, monkeypatch):
    Automation.objects.all().delete()
    AutomationVersion.objects.all().delete()
    runs._forget_versions()

    def fail(_version):
        raise RuntimeError

    monkeypatch.setattr(definitions, "graph", fail)
    assert start(api).status_code == 500
    monkeypatch.undo()
    assert start(api, key="k-2").status_code == 201
    assert api.send("/runs", SQUARES).status_code == 201


def test_sweep__past_keys_that_are_used_again_waits_for_nobody(line, monkeypatch):
    for number in range(12):
        start(ApiClient(), key=f"k-{number:02}")
    IdempotentAnswer.objects.update(expires_at=F("expires_at") - timedelta(hours=25))
    count, both = sql.count, threading.Barrier(2)

    def meet(statement, parameters=None):
        if statement == idempotency.SWEEP:
            both.wait(10)  # each has its own row by now
        return count(statement, parameters)

    def ask(key):
        try:
            return start(ApiClient(), key=key).status_code
        finally:
            connections.close_all()

    monkeypatch.setattr(sql, "count", meet)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(ask, ["k-11", "k-00"])) == [201, 201]
