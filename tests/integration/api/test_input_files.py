"""A run reads for its caller what that caller may read: files named by their hash."""

from __future__ import annotations

import json
import uuid

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from departments.models import Schedule
from engine import artifacts, runs
from engine.access import grants
from engine.models import Artifact, Run
from engine.webhooks import incoming
from tests.integration.admin.test_schedules import ADD, form
from tests.integration.faces import ApiClient

CONTENT = b"date;amount\n2026-01-01;1\n"
MISSING = "there is no such file that you may read; send it with the call"


def start(client, ref, automation="lab.odd", field="anything"):
    return client.send("/runs", {"automation": automation, "input": {field: ref}})


@pytest.fixture
def foreign(line):
    """A file of a run of another department, as its reference."""
    run_id = runs.submit(automation="courier.letter", input={}, trigger="api").run_id
    ref = artifacts.put(name="salaries.csv", content=CONTENT, media_type="text/csv")
    Artifact.objects.create(
        id=uuid.uuid4(), run_id=run_id, created_at=timezone.now(), **ref.model_dump()
    )
    return ref.model_dump(mode="json")


def refused(answered):
    body = answered.json()
    assert (answered.status_code, body["code"]) == (400, "input_invalid"), body
    return body


def test_start__on_a_file_of_another_department_is_of_no_such_file(foreign):
    client = ApiClient("lab:runs.*", "lab:artifacts.read")
    found = refused(start(client, foreign))
    assert found["errors"] == [{"pointer": "/input/anything", "reason": MISSING}]
    invented = refused(start(client, foreign | {"sha256": "a" * 64}))
    assert {**found, "request_id": ""} == {**invented, "request_id": ""}
    assert not Run.objects.filter(department="lab").exists()


def test_start__on_a_file_that_may_be_read_runs(foreign):
    everywhere, there = ("runs.*", "artifacts.read"), ("lab:runs.*", "courier:artifacts.*")
    assert start(ApiClient(*everywhere), foreign).status_code == 201
    assert start(ApiClient(*there), foreign).status_code == 201


def test_start__needs_the_scope_of_contents(foreign):
    refused(start(ApiClient("runs.*"), foreign))


def test_start__finds_both_files_at_what_is_written_as_one_place(foreign):
    client = ApiClient("lab:runs.*", "lab:artifacts.read")
    mine = artifacts.store(
        name="mine.csv", content=b"mine", media_type="text/csv", created_by="tester"
    )
    own = mine.model_dump(mode="json")
    given = {"a": {"b.c": own, "b": {"c": foreign}}}
    assert refused(start(client, given))["errors"] == [
        {"pointer": "/input/anything/a/b/c", "reason": MISSING}
    ]
    assert start(client, {"b.c": own}).status_code == 201


@pytest.mark.parametrize("wrap", [lambda ref: [1, {"deep": [ref]}], lambda ref: {"a.b": ref}])
def test_start__finds_a_file_at_any_depth(foreign, wrap):
    (error,) = refused(start(ApiClient("lab:runs.*"), wrap(foreign)))["errors"]
    assert error["pointer"].startswith("/input/anything/")


def test_start__on_ones_own_upload_again_runs(line):
    client = ApiClient("finance:runs.*")
    sent = {
        "automation": "finance.cashflow_report",
        "ledger": SimpleUploadedFile("bank.csv", CONTENT, "text/csv"),
    }
    first = client.post("/runs", data=sent)
    assert first.status_code == 201, first.content
    ref = first.json()["input"]["ledger"]
    assert start(client, ref, "finance.cashflow_report", "ledger").status_code == 201
    Artifact.objects.update(created_by="somebody else")
    refused(start(client, ref, "finance.cashflow_report", "ledger"))


def test_start__without_a_file_asks_nothing_of_files(line):
    client = ApiClient("lab:runs.*")
    with CaptureQueriesContext(connection) as asked:
        answered = start(client, {"sha256": "not a hash", "name": "a", "size": 1})
        assert answered.status_code == 201
    assert not [query for query in asked if "engine_artifact" in query["sql"]]


def test_hook__reads_the_files_of_its_own_department_only(foreign):
    def call(automation, field=""):
        _, token, _ = incoming.create(
            automation=automation, actor="test", signed=False, input_field=field
        )
        body = foreign if field else {"anything": foreign}
        address = f"/hooks/{token}"
        return Client().post(address, data=body, content_type="application/json")

    for field, pointer in (("", "/anything"), ("anything", "")):
        answered = call("lab.odd", field)
        assert answered.status_code == 400
        assert answered.json()["errors"] == [{"pointer": pointer, "reason": MISSING}]
    Run.objects.filter(department="courier").update(department="lab")
    assert call("lab.odd").status_code == 202


def test_schedule__reads_for_whoever_writes_it(foreign, client):
    ann = User.objects.create_user("ann", "", "pw", is_staff=True)
    grants.grant(user=ann, role="operator", department="lab", by="root")
    client.force_login(ann)
    asked = form(automation="lab.odd", input=json.dumps({"anything": foreign}))
    answered = client.post(ADD, asked)
    assert answered.status_code == 200
    assert MISSING in str(answered.context["adminform"].form.errors["input"])
    claimed = {"initial-input": asked["input"]}
    assert client.post(ADD, asked | claimed).status_code == 200, "the browser's word is none"
    grants.grant(user=ann, role="approver", department="courier", by="root")
    assert client.post(ADD, asked).status_code == 302
    made = Schedule.objects.get()
    grants.revoke(user=ann, role="approver", department="courier", by="root")
    page = f"/admin/departments/schedule/{made.pk}/change/"
    later = client.post(page, asked | {"cron": "0 5 * * *"})
    assert later.status_code == 302, "what stands there already is not asked about"
