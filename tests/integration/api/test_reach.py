"""Tokens that hold their scopes in some departments only: what they see, and what is not there."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from engine import artifacts
from engine.access import grants
from engine.access.grants import GrantInvalidError
from engine.models import Artifact, DeadLetter, RoleGrant
from tests.eventually import eventually
from tests.integration.faces import ALL, ApiClient, work

LETTER = {"automation": "courier.letter"}
SQUARES = {"automation": "lab.squares", "input": {"count": 2}}


def within(department, *scopes):
    return ApiClient(*(f"{department}:{scope}" for scope in scopes or ALL))


@pytest.fixture
def runs(api, line):
    """One run of each of two departments, by department."""
    return {
        "courier": api.send("/runs", LETTER).json()["id"],
        "lab": api.send("/runs", SQUARES).json()["id"],
    }


def test_runs__of_other_departments_are_not_listed(runs):
    def found(client, query=""):
        body = client.get(f"/runs{query}").json()
        return {run["id"] for run in body["results"]}

    assert found(within("lab")) == {runs["lab"]}
    assert found(within("lab"), "?department=courier") == set()
    assert found(within("lab"), "?automation=courier.letter") == set()
    assert found(within("lab"), "?automation=lab.squares&state=pending") == {runs["lab"]}
    assert found(ApiClient("lab:runs.read", "courier:runs.read")) == set(runs.values())
    assert within("lab").get("/runs?count=true").json()["count"] == 1


def test_runs__of_other_departments_are_not_found_by_a_word(api, line):
    for body in (LETTER, SQUARES):
        api.send("/runs", {**body, "correlation_id": "order-1"})
    found = within("lab").get("/runs?correlation_id=order-1").json()["results"]
    assert [run["department"] for run in found] == ["lab"]


def test_list__pages_through_its_departments_without_gap_or_double(api, line):
    bodies = [LETTER, SQUARES, {"automation": "freight.load"}] * 3
    started = [api.send("/runs", body).json() for body in bodies]
    client = ApiClient("lab:runs.read", "courier:runs.read")
    found, address = [], "/runs?limit=2"
    while address:
        body = client.get(address).json()
        found += [run["id"] for run in body["results"]]
        address = body["next"]
    mine = [run["id"] for run in started if run["department"] != "freight"]
    assert found == list(reversed(mine))


@pytest.mark.parametrize("tail", ["", "/steps", "/events", "/artifacts", "/why"])
def test_run__of_another_department_is_not_there(runs, tail):
    mine = within("lab").get(f"/runs/{runs['lab']}{tail}")
    assert mine.status_code == 200
    other = within("lab").get(f"/runs/{runs['courier']}{tail}")
    assert (other.status_code, other.json()["code"]) == (404, "not_found")
    gone = within("lab").get(f"/runs/{runs['courier'][:-12]}{'0' * 12}{tail}")
    assert other.json()["detail"].split()[:4] == gone.json()["detail"].split()[:4]


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_run__of_another_department_is_not_steered(api, runs, verb):
    address = f"/runs/{runs['courier']}/{verb}"
    assert within("lab").post(address).status_code == 404
    seeing = ApiClient("runs.read", "lab:runs.write").post(address)
    assert (seeing.status_code, seeing.json()["scope"]) == (403, "runs.write")
    assert "courier" in seeing.json()["detail"]
    assert api.get(f"/runs/{runs['courier']}").json()["state"] == "pending"


def test_run__of_another_department_is_not_changed(api, runs):
    def change(client, department):
        address = f"/runs/{runs[department]}"
        return client.patch(address, {"priority": 7}, content_type="application/json")

    assert change(within("lab"), "courier").status_code == 404
    assert change(ApiClient("runs.read", "lab:runs.write"), "courier").status_code == 403
    assert change(within("lab"), "lab").json()["priority"] == 7
    assert api.get(f"/runs/{runs['courier']}").json()["priority"] == 0


def test_start__in_another_department_is_of_an_unknown_automation(line):
    assert within("lab").send("/runs", SQUARES).status_code == 201
    refused = within("lab").send("/runs", LETTER)
    assert (refused.status_code, refused.json()["code"]) == (400, "automation_unknown")
    assert "lab.squares" in refused.json()["detail"]
    assert "courier.letter'" in refused.json()["detail"]
    assert "freight" not in refused.json()["detail"]
    invented = within("lab").send("/runs", {"automation": "no.such"})
    assert (
        invented.json()["detail"].replace("no.such", "courier.letter") == (refused.json()["detail"])
    )


def test_start__in_a_department_that_is_only_seen_names_the_scope(line):
    refused = ApiClient("runs.read", "lab:runs.write").send("/runs", LETTER)
    assert (refused.status_code, refused.json()["scope"]) == (403, "runs.write")


def test_departments__are_those_of_the_token(line):
    client = within("lab")
    assert [row["slug"] for row in client.get("/departments").json()["results"]] == ["lab"]
    assert client.get("/departments/lab").status_code == 200
    missing = client.get("/departments/nowhere").json()["detail"]
    other = client.get("/departments/courier")
    assert (other.status_code, other.json()["detail"]) == (
        404,
        missing.replace("nowhere", "courier"),
    )
    for verb in ("pause", "resume"):
        assert client.post(f"/departments/courier/{verb}").status_code == 404
        assert client.post(f"/departments/lab/{verb}").status_code == 200
    seeing = ApiClient("departments.read", "lab:departments.write")
    assert seeing.post("/departments/courier/pause").status_code == 403


def test_automations__are_those_of_its_departments(line):
    client = within("courier")
    assert [row["name"] for row in client.get("/automations").json()["results"]] == [
        "courier.letter"
    ]
    assert client.get("/automations?department=lab").json()["results"] == []
    assert client.get("/automations/courier.letter").status_code == 200
    other = client.get("/automations/lab.squares")
    missing = client.get("/automations/lab.nothing").json()["detail"]
    assert (other.status_code, other.json()["detail"]) == (
        404,
        missing.replace("nothing", "squares"),
    )


def test_dead_letters__are_those_of_its_departments(api, line, tmp_path):
    api.send("/runs", {"automation": "lab.fragile", "input": {"folder": str(tmp_path)}})
    work(line)
    letter = DeadLetter.objects.get()
    other, seeing = within("courier"), ApiClient("dead_letters.read", "courier:dead_letters.write")
    assert other.get("/dead-letters").json()["results"] == []
    assert other.get(f"/dead-letters/{letter.pk}").status_code == 404
    for verb in ("requeue", "discard"):
        assert other.post(f"/dead-letters/{letter.pk}/{verb}").status_code == 404
        assert seeing.post(f"/dead-letters/{letter.pk}/{verb}").status_code == 403
    letter.refresh_from_db()
    assert letter.state == "open"
    mine = within("lab")
    assert len(mine.get("/dead-letters").json()["results"]) == 1
    assert mine.post(f"/dead-letters/{letter.pk}/discard").status_code == 200


def download(client, row):
    answered = client.get(f"/artifacts/{row.pk}")
    if answered.streaming:
        assert b"".join(answered.streaming_content) == b"hello"
    return answered.status_code


def test_artifact__is_seen_through_its_run(api, runs):
    artifacts.store(name="a.txt", content=b"hello", media_type="text/plain")
    row = Artifact.objects.get()
    assert download(within("lab"), row) == 404, "of no run"
    assert download(api, row) == 200
    Artifact.objects.update(run_id=runs["courier"])
    assert download(within("lab"), row) == 404
    assert download(within("courier"), row) == 200
    seeing = ApiClient("runs.read", "lab:artifacts.read").get(f"/artifacts/{row.pk}")
    assert (seeing.status_code, seeing.json()["scope"]) == (403, "artifacts.read")


@pytest.mark.parametrize("media_type", ["text/plain\n", "text/html\r\nX-Evil: 1", "no type", ""])
def test_artifact__of_a_type_that_is_none_is_handed_out_as_bytes(api, line, media_type):
    artifacts.store(name="a.txt", content=b"hello", media_type=media_type)
    answered = api.get(f"/artifacts/{Artifact.objects.get().pk}")
    assert answered.status_code == 200
    assert b"".join(answered.streaming_content) == b"hello"
    assert answered["Content-Type"] == "application/octet-stream"
    assert "X-Evil" not in answered


def test_replay__shows_nothing_to_whom_may_start_there_no_more(line):
    def start(client):
        headers = {"idempotency-key": "k-1"}
        return client.post("/runs", LETTER, content_type="application/json", headers=headers)

    assert start(within("courier")).status_code == 201
    refused = start(within("lab"))
    assert (refused.status_code, refused.json()["code"]) == (400, "automation_unknown")


def test_sign_in__gives_the_scopes_of_roles_where_they_are_held(api, line):
    ann = User.objects.create_user("ann", "", "pw")
    grants.grant(user=ann, role="viewer", by="root")
    grants.grant(user=ann, role="operator", department="courier", by="root")
    body = api.send("/auth/token", {"username": "ann", "password": "pw"}).json()
    assert body["scopes"][0] == "runs.read"
    assert "courier:runs.write" in body["scopes"]
    api.bearer = body["access"]
    assert api.get("/auth/me").json()["scopes"] == body["scopes"]
    assert api.send("/runs", LETTER).status_code == 201
    assert api.send("/runs", SQUARES).status_code == 403


@pytest.mark.parametrize(
    ("role", "department", "word"), [("wizard", "", "operator"), ("viewer", "nowhere", "courier")]
)
def test_grant__of_what_nobody_knows_is_refused(line, role, department, word):
    ann = User.objects.create_user("ann", "", "pw")
    with pytest.raises(GrantInvalidError, match=word):
        grants.grant(user=ann, role=role, department=department, by="root")
    assert not RoleGrant.objects.exists()


def test_grant__is_held_once_and_counts_for_the_active_only(line):
    ann = User.objects.create_user("ann", "", "pw")
    assert grants.grant(user=ann, role="viewer", department="lab", by="root")
    assert not grants.grant(user=ann, role="viewer", department="lab", by="root")
    assert grants.policy_of(ann).departments("runs.read").only == ["lab"]
    assert not grants.revoke(user=ann, role="viewer", by="root")
    ann.is_active = False
    assert not grants.policy_of(ann).departments("runs.read")
    ann.is_active = ann.is_superuser = True
    assert grants.policy_of(ann).allows("admin.people")


def test_token__of_a_user_whose_roles_change_is_refused_within_a_second(api, line):
    ann = User.objects.create_user("ann", "", "pw")
    grants.grant(user=ann, role="operator", by="root")
    pair = api.send("/auth/token", {"username": "ann", "password": "pw"}).json()
    api.bearer = pair["access"]
    assert api.get("/runs").status_code == 200
    assert grants.revoke(user=ann, role="operator", by="root")
    eventually(lambda: api.get("/runs").status_code == 401, within=1, what="the refusal")
    body = api.send("/auth/refresh", {"refresh": pair["refresh"]}).json()
    assert body["scopes"] == []
    api.bearer = body["access"]
    assert api.get("/runs").status_code == 403
    assert grants.grant(user=ann, role="viewer", department="lab", by="root")
    body = api.send("/auth/refresh", {"refresh": body["refresh"]}).json()
    api.bearer = body["access"]
    assert api.get("/runs").status_code == 200
