import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections

from engine import selectors, sql
from engine.models import Artifact, Run, StepRun
from tests.catalog.lab import _dsn
from tests.eventually import eventually
from tests.integration.faces import work

SQUARES = {"automation": "lab.squares", "input": {"count": 2}}


@pytest.fixture
def run(api, line):
    return api.send("/runs", SQUARES).json()


def test_start__answers_201_with_location_and_progress(api, line):
    response = api.send("/runs", SQUARES)
    body = response.json()
    assert response.status_code == 201
    assert response["Location"] == f"/runs/{body['id']}"
    assert body["state"] == "pending"
    assert body["progress"]["total"] == 3
    assert (body["trigger"], body["created_by"]) == ("api", "tester")


def test_run__a_database_lost_between_two_statements_is_answered_503(api, line, run, monkeypatch):
    find = selectors.run

    def find_and_lose(*, run_id):
        found = find(run_id=run_id)
        statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s"
        with psycopg.connect(_dsn(), autocommit=True) as other:
            other.execute(statement, [connection.connection.info.backend_pid])
        return found

    monkeypatch.setattr(selectors, "run", find_and_lose)
    lost = api.get(f"/runs/{run['id']}")
    monkeypatch.undo()
    connection.close()
    assert (lost.status_code, lost.json()["code"]) == (503, "database_unavailable")
    assert lost["Retry-After"]
    assert api.get(f"/runs/{run['id']}").status_code == 200


def test_run__after_its_end_shows_output_steps_and_events(api, line, run):
    work(line)
    body = api.get(f"/runs/{run['id']}").json()
    assert (body["state"], body["output"], body["progress"]["percent"]) == ("succeeded", 1, 100.0)
    steps = api.get(f"/runs/{run['id']}/steps").json()["results"]
    assert {step["state"] for step in steps} == {"succeeded"}
    kinds = [e["kind"] for e in api.get(f"/runs/{run['id']}/events").json()["results"]]
    assert kinds[0] == "run.submitted"
    assert "run.completed" in kinds or "run.succeeded" in kinds
    assert api.get(f"/runs/{run['id']}/why").json()["results"] == []


BAD_BODIES = {
    "half json": b"{",
    "a list": b"[]",
    "no utf-8": b"\xff\xfe",
    "nan": b'{"automation":"lab.squares","input":{"count":NaN}}',
    "huge float": b'{"automation":"lab.squares","input":{"count":1e999}}',
    "endless digits": b'{"automation":"lab.squares","input":{"count":' + b"9" * 5000 + b"}}",
    "huge int": b'{"automation":"lab.squares","input":{"count":' + b"9" * 400 + b"}}",
    "nul": b'{"automation":"lab.squares","input":{"count":"\\u0000"}}',
    "nul in a key": b'{"automation":"lab.squares","input":{"\\u0000":1}}',
    "half a surrogate": b'{"automation":"lab.squares","dedupe_key":"\\ud800"}',
    "bottomless": b"[" * 100_000,
    "deep": b'{"automation":"lab.squares","input":{"count":' + b"[" * 200 + b"]" * 200 + b"}}",
    "unknown field": b'{"automation":"lab.squares","colour":1}',
    "unknown input field": b'{"automation":"lab.squares","input":{"colour":1}}',
    "name given twice": b'{"automation":"no.such","automation":"lab.squares"}',
    "utf-16": '{"automation":"lab.squares"}'.encode("utf-16"),
    "priority as text": b'{"automation":"lab.squares","priority":"1"}',
    "priority as truth": b'{"automation":"lab.squares","priority":true}',
    "no automation": b"{}",
    "unknown automation": b'{"automation":"no.such"}',
    "nul automation": b'{"automation":"\\u0000"}',
    "far priority": b'{"automation":"lab.squares","priority":99999999999999999999}',
    "tags no list": b'{"automation":"lab.squares","tags":"a"}',
    "long key": b'{"automation":"lab.squares","dedupe_key":"' + b"k" * 256 + b'"}',
    "empty key": b'{"automation":"lab.squares","dedupe_key":""}',
    "deadline before year one": b'{"automation":"lab.squares",'
    b'"deadline_at":"0001-01-01T00:00:00+14:00"}',
    "deadline past": b'{"automation":"lab.squares","deadline_at":"2020-01-01T00:00:00Z"}',
    "deadline without offset": b'{"automation":"lab.squares","deadline_at":"2999-01-01T00:00:00"}',
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_start__refuses_a_bad_body_and_stores_nothing(api, line, name):
    response = api.post("/runs", data=BAD_BODIES[name], content_type="application/json")
    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["code"]
    assert body["detail"]
    assert body["request_id"] == response["X-Request-ID"]
    assert not Run.objects.exists()


def test_start__names_the_place_of_a_nul_character(api, line):
    given = {"automation": "finance.cashflow_report", "input": {"title": "a\x00b"}}
    assert "/input/title: contains a NUL" in api.send("/runs", given).json()["detail"]


def test_start__names_each_field_at_fault(api, line):
    response = api.send("/runs", {"automation": "lab.squares", "input": {"count": -1, "x": 1}})
    pointers = {error["pointer"] for error in response.json()["errors"]}
    assert pointers == {"/input/count", "/input/x"}


def test_start__refuses_a_body_above_the_limit(api, line, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    response = api.send("/runs", {**SQUARES, "dedupe_key": "k" * 200})
    assert response.status_code == 413


def test_start__takes_a_form_with_its_files(api, line):
    field = "ledger"
    response = api.post(
        "/runs",
        data={
            "automation": "finance.cashflow_report",
            "input": json.dumps({"title": "Mine"}),
            field: SimpleUploadedFile("bänk.csv", b"a;b\n", "text/csv"),
        },
    )
    assert response.status_code == 201, response.content
    given = response.json()["input"]
    assert given["title"] == "Mine"
    assert (given[field]["name"], given[field]["size"]) == ("bänk.csv", 4)


def test_start__keeps_a_file_whose_name_is_only_a_path(api, line):
    # Left out, the report would be one of the sample ledger, and succeed.
    form = (
        '--x\r\nContent-Disposition: form-data; name="automation"\r\n\r\nfinance.cashflow_report'
        '\r\n--x\r\nContent-Disposition: form-data; name="ledger"; filename=".."\r\n\r\na;b'
        "\r\n--x--\r\n"
    )
    response = api.post("/runs", data=form, content_type="multipart/form-data; boundary=x")
    assert response.status_code == 201, response.content
    assert response.json()["input"]["ledger"]["name"] == "file"


@pytest.mark.parametrize("field", ["input", "tags", "priority"])
def test_start__names_the_field_of_a_form_that_is_not_json(api, line, field):
    form = {"automation": "lab.squares", field: "{'a"}
    response = api.post("/runs", data=form)
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == f"/{field}"


def test_start__says_in_words_that_a_field_holds_a_nul_character(api, line):
    form = {"automation": "lab.squares", "correlation_id": "a\x00b"}
    detail = api.post("/runs", data=form).json()["detail"]
    assert detail == "Field /correlation_id: contains a NUL character, which cannot be stored"


@pytest.mark.parametrize("field", ["nothing", "input"])
def test_start__with_a_file_for_no_field_stores_nothing(api, line, field):
    file = SimpleUploadedFile("a.csv", b"x")
    response = api.post("/runs", data={"automation": "finance.cashflow_report", field: file})
    assert response.status_code == 400, response.content
    assert not Artifact.objects.exists()


def test_start__as_a_broken_form_is_400(api, line):
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        response = api.post("/runs", data=b"--x\r\nfoo", content_type=content_type)
        assert response.status_code == 400


def test_list__pages_by_keyset_without_gap_or_double(api, line):
    started = [api.send("/runs", SQUARES).json()["id"] for _ in range(5)]
    found, address = [], "/runs?limit=2"
    while address:
        body = api.get(address).json()
        found += [run["id"] for run in body["results"]]
        address = body["next"]
    assert found == list(reversed(started))


def test_list__pages_back_the_way_it_came(api, line):
    started = [api.send("/runs", SQUARES).json()["id"] for _ in range(5)]
    there, address = [], "/runs?limit=2&department=lab"
    while address:
        there.append(api.get(address).json())
        address = there[-1]["next"]
    assert [len(one["results"]) for one in there] == [2, 2, 1]
    assert there[0]["previous"] is None
    back, address = [], there[-1]["previous"]
    while address:
        back.append(api.get(address).json())
        address = back[-1]["previous"]
    ids = [run["id"] for one in reversed(back) for run in one["results"]]
    assert ids == list(reversed(started))[:4]
    assert api.get(back[0]["next"]).json()["results"] == there[-1]["results"]


def test_list__filters(api, line, run):
    def number(query):
        return len(api.get(f"/runs?{query}").json()["results"])

    assert number("state=pending&department=lab&automation=lab.squares") == 1
    assert number("state=failed") == 0
    assert number("department=finance") == 0


def test_list__finds_by_correlation_error_and_time(api, line):
    first = api.send("/runs", {**SQUARES, "correlation_id": "order-1"}).json()
    second = api.send("/runs", {**SQUARES, "correlation_id": "order-2"}).json()
    third = api.send("/runs", {**SQUARES, "correlation_id": "order-1"}).json()
    Run.objects.filter(pk=third["id"]).update(error_code="odd")

    def found(**query):
        response = api.get("/runs", query)
        assert response.status_code == 200, response.content
        return [run["id"] for run in response.json()["results"]]

    assert found(correlation_id="order-1") == [third["id"], first["id"]]
    assert found(correlation_id="order-1", error_code="odd") == [third["id"]]
    assert found(error_code="odd", department="lab", state="pending") == [third["id"]]
    assert found(error_code="odd", state="failed") == []
    moment = second["created_at"]
    assert found(created_after=moment) == [third["id"], second["id"]]
    assert found(created_before=moment, correlation_id="order-1") == [first["id"]]
    assert found(created_after=moment, created_before=third["created_at"]) == [second["id"]]
    assert found(created_after=moment, automation="lab.squares", limit=1) == [third["id"]]


def test_list__finds_by_tag_as_tags_come_and_go(api, line):
    first = api.send("/runs", {**SQUARES, "tags": ["spring", "vip", "vip"]}).json()["id"]
    second = api.send("/runs", {**SQUARES, "tags": ["spring"], "correlation_id": "c"}).json()["id"]
    third = api.send("/runs", {**SQUARES, "correlation_id": "c"}).json()["id"]

    def found(**query):
        return [run["id"] for run in api.get("/runs", query).json()["results"]]

    assert found(tag="spring") == [second, first]
    assert found(tag="vip") == [first]
    assert found(tag="spring", correlation_id="c") == [second]
    assert found(tag="spring", department="lab", state="pending") == [second, first]
    assert found(tag="spring", state="failed") == found(tag="spri") == found(tag="VIP") == []
    assert found(tag="spring", automation="lab.squares", limit=1) == [second]
    moment = api.get(f"/runs/{second}").json()["created_at"]
    assert found(tag="spring", created_before=moment) == [first]
    change(api, {"id": first}, {"tags": ["autumn"]})
    change(api, {"id": third}, {"tags": ["spring", "late"]})
    assert found(tag="spring") == [third, second]
    assert (found(tag="autumn"), found(tag="vip")) == ([first], [])
    Run.objects.get(pk=second).delete()
    assert found(tag="spring") == [third]


def test_list__counts_as_far_as_that_is_cheap(api, line, monkeypatch):
    for _ in range(4):
        api.send("/runs", SQUARES)
    monkeypatch.setattr("engine.api.runs.MOST_COUNTED", 3)
    assert "count" not in api.get("/runs").json()
    body = api.get("/runs?count=true&limit=1").json()
    assert (body["count"], body["count_is_exact"]) == (3, False)
    assert api.get("/runs?count=true&state=failed").json()["count"] == 0


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=1&limit=2",
        "colour=red",
        "before=1",
        "state=odd",
        "department=%00",
        "before=%00",
        f"before={UUID(int=1)}&after={UUID(int=2)}",
        "created_after=yesterday",
        "created_after=2026-11-24T10:00:00",
        "created_after=1764000000",
        "created_before=20261124",
        "created_before=0000-01-01T00:00:00Z",
        "correlation_id=%00",
        "correlation_id=",
        "error_code=",
        "tag=",
        "tag=%00",
        "tag=" + "t" * 101,
        "department=",
        "automation=",
        "count=perhaps",
        "limit=" + "9" * 5000,
    ],
)
def test_list__refuses_a_bad_query(api, line, query):
    response = api.get(f"/runs?{query}")
    assert response.status_code == 400
    assert response.json()["errors"]


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("created_before=0001-01-01T00:00:00Z", 0),
        ("created_after=0001-01-01T00:00:00%2B14:00", 1),
        ("created_before=9999-12-31T23:59:59-14:00", 1),
        ("created_after=9999-12-31T23:59:59Z", 0),
    ],
)
def test_list__takes_any_moment_there_is(api, line, run, query, number):
    response = api.get(f"/runs?{query}")
    assert response.status_code == 200, response.content
    assert len(response.json()["results"]) == number


def test_run__has_one_address(api, line, run):
    for other in (f"{{{run['id']}}}", f"urn:uuid:{run['id']}", run["id"].replace("-", "")):
        assert api.get(f"/runs/{other}").status_code == 404
    assert api.get(f"/runs/{run['id'].upper()}").status_code == 200


def test_files__of_a_run_come_in_pages(api, run):
    from engine import artifacts  # noqa: PLC0415 - models need settings

    names = [f"{number}.txt" for number in range(5)]
    for name in names:
        artifacts.store(name=name, content=name.encode(), media_type="text/plain")
    Artifact.objects.update(run_id=run["id"])
    found, following = [], f"/runs/{run['id']}/artifacts?limit=2"
    sizes = []
    while following:
        answer = api.get(following.removeprefix("http://testserver")).json()
        sizes.append(len(answer["results"]))
        found += [file["name"] for file in answer["results"]]
        following = answer["next"]
    assert (found, sizes) == (names[::-1], [2, 2, 1])


@pytest.mark.parametrize("identity", ["x", "%00", "0" * 32, "1/../2", "é"])
@pytest.mark.parametrize("tail", ["", "/steps", "/events", "/artifacts", "/why"])
def test_run__that_does_not_exist_is_404(api, line, identity, tail):
    response = api.get(f"/runs/{identity}{tail}")
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


def test_steering__goes_through_and_is_recorded(api, line, run):
    address = f"/runs/{run['id']}"
    assert api.post(f"{address}/pause").json()["state"] == "paused"
    assert api.send(f"{address}/resume").json()["state"] in {"pending", "running"}
    assert api.post(f"{address}/cancel").json()["state"] == "cancelled"
    events = api.get(f"{address}/events").json()["results"]
    assert {e["actor"] for e in events if e["kind"] in {"run.paused", "run.resumed"}} == {"tester"}


def test_steering__that_is_not_legal_answers_409_with_the_run_as_it_is(api, line, run):
    api.post(f"/runs/{run['id']}/cancel")
    for verb in ("cancel", "pause", "resume"):
        response = api.post(f"/runs/{run['id']}/{verb}")
        assert response.status_code == 409
        assert response.json()["code"] == "state_conflict"
        assert response.json()["current"]["state"] == "cancelled"


def test_why__tells_of_a_paused_department(api, line, run):
    assert api.post("/departments/lab/pause").json()["paused"] is True
    codes = {w["reason_code"] for w in api.get(f"/runs/{run['id']}/why").json()["results"]}
    assert "department_paused" in codes
    found = api.get(f"/runs/{run['id']}/why").json()
    (first,) = [w for w in found["results"] if w["reason_code"] == "department_paused"]
    assert (first["details"]["department"], first["details"]["queue"]) == ("lab", "lab")
    assert found["run"]["reason_code"] == "department_paused"
    assert found["run"]["details"]["step"] == first["step"]
    assert api.post("/departments/lab/resume").json()["paused"] is False


def test_departments__show_their_open_work(api, line, run):
    found = {d["slug"]: d for d in api.get("/departments").json()["results"]}
    assert found["lab"]["open_runs"] == {"pending": 1}
    assert api.get("/departments/lab").json() == found["lab"]
    assert api.post("/departments/none/pause").status_code == 404


def test_automation__shows_its_input_schema_and_graph(api, line):
    names = {row["name"] for row in api.get("/automations").json()["results"]}
    assert {"lab.squares", "finance.cashflow_report"} <= names
    body = api.get("/automations/lab.squares").json()
    assert "count" in body["input_schema"]["properties"]
    assert [(n["key"], n["mapped"], n["after"]) for n in body["graph"]["nodes"]] == [
        ("numbers", False, []),
        ("square", True, ["numbers"]),
        ("total", False, ["square"]),
    ]
    assert api.get("/automations/no.such").status_code == 404


@pytest.fixture
def artifact(db):
    """A file of ten bytes."""
    from engine import artifacts  # noqa: PLC0415 - models need settings

    artifacts.store(name="digits.txt", content=b"0123456789", media_type="text/plain")
    return Artifact.objects.get()


def test_artifact__is_an_attachment_that_can_run_nothing(api, line, db):
    from engine import artifacts  # noqa: PLC0415 - models need settings

    artifacts.store(name='a"\r\nX: y.html', content=b"<script>", media_type="text/html")
    row = Artifact.objects.get()
    response = api.get(f"/artifacts/{row.pk}")
    assert b"".join(response.streaming_content) == b"<script>"
    assert response["Content-Disposition"].startswith("attachment")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"].startswith("sandbox")
    assert api.get(f"/artifacts/{row.pk}", HTTP_IF_NONE_MATCH=response["ETag"]).status_code == 304


@pytest.mark.parametrize(
    ("asked", "got", "place"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=-200", b"0123456789", "bytes 0-9/10"),
        ("bytes=9-4000", b"9", "bytes 9-9/10"),
    ],
)
def test_artifact__is_read_in_parts(api, artifact, asked, got, place):
    part = api.get(f"/artifacts/{artifact.pk}", HTTP_RANGE=asked)
    assert (part.status_code, b"".join(part.streaming_content)) == (206, got)
    assert (part["Content-Range"], part["Content-Length"]) == (place, str(len(got)))
    assert (part["Accept-Ranges"], part["Content-Security-Policy"][:7]) == ("bytes", "sandbox")


@pytest.mark.parametrize(
    "asked", ["bytes=4-2", "bytes=a-b", "bytes=0-1,4-5", "items=0-1", "bytes=-", "bytes=1-\u0662"]
)
def test_artifact__is_answered_whole_where_the_range_says_nothing(api, line, artifact, asked):
    whole = api.get(f"/artifacts/{artifact.pk}", HTTP_RANGE=asked)
    assert (whole.status_code, b"".join(whole.streaming_content)) == (200, b"0123456789")


def test_artifact__of_another_content_than_the_client_began_with_is_answered_whole(
    api, line, artifact
):
    place, asked = f"/artifacts/{artifact.pk}", {"HTTP_RANGE": "bytes=0-3"}
    whole = api.get(place, **asked, HTTP_IF_RANGE='"other"')
    assert (whole.status_code, b"".join(whole.streaming_content)) == (200, b"0123456789")
    part = api.get(place, **asked, HTTP_IF_RANGE=f'"{artifact.sha256}"')
    assert (part.status_code, b"".join(part.streaming_content)) == (206, b"0123")


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=11-20", "bytes=-0"])
def test_artifact__has_nothing_behind_its_end(api, line, artifact, asked):
    refused = api.get(f"/artifacts/{artifact.pk}", HTTP_RANGE=asked)
    assert (refused.status_code, refused["Content-Range"]) == (416, "bytes */10")
    assert refused.json()["code"] == "range_not_satisfiable"


def test_dead_letters__are_listed_and_requeued_once(api, line, tmp_path):
    body = {"automation": "lab.fragile", "input": {"folder": str(tmp_path)}}
    run = api.send("/runs", body).json()
    work(line)
    letter = api.get("/dead-letters?state=open").json()["results"][0]
    assert (letter["run_id"], letter["error"]["code"]) == (run["id"], "broken")
    (tmp_path / "mended").touch()
    assert api.post(f"/dead-letters/{letter['id']}/requeue").json()["state"] == "requeued"
    again = api.post(f"/dead-letters/{letter['id']}/discard")
    assert (again.status_code, again.json()["current"]["state"]) == (409, "requeued")
    work(line)
    assert api.get(f"/runs/{run['id']}").json()["state"] == "succeeded"


@pytest.mark.parametrize("identity", ["0", "-1", "x", "9" * 30, "%00", "²"])
def test_dead_letter__that_does_not_exist_is_404(api, line, identity):
    assert api.get(f"/dead-letters/{identity}").status_code == 404
    assert api.post(f"/dead-letters/{identity}/requeue").status_code == 404


def test_unknown_path__is_a_problem_too(api, db):
    response = api.get("/nope", HTTP_X_REQUEST_ID="my-id")
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["request_id"] == response["X-Request-ID"] == "my-id"


def test_deadline__ahead_is_kept(api, line):
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert api.send("/runs", {**SQUARES, "deadline_at": ahead}).json()["deadline_at"]


def test_retry__tries_every_dead_step_again_and_keeps_what_succeeded(api, line, tmp_path):
    body = {"automation": "lab.fragile", "input": {"folder": str(tmp_path)}}
    run = api.send("/runs", body).json()
    work(line)
    (tmp_path / "mended").touch()
    retried = api.post(f"/runs/{run['id']}/retry")
    assert (retried.status_code, retried.json()["generation"]) == (200, 2)
    assert api.get("/dead-letters?state=open").json()["results"] == []
    work(line)
    assert api.get(f"/runs/{run['id']}").json()["state"] == "succeeded"
    again = api.post(f"/runs/{run['id']}/retry")
    assert (again.status_code, again.json()["current"]["state"]) == (409, "succeeded")


def test_retry__of_a_run_that_failed_restores_what_it_had_cancelled(api, line, tmp_path):
    body = {"automation": "lab.fragile_fail", "input": {"folder": str(tmp_path)}}
    run = api.send("/runs", body).json()
    work(line)
    assert api.get(f"/runs/{run['id']}").json()["state"] == "failed"
    (tmp_path / "mended").touch()
    assert api.post(f"/runs/{run['id']}/retry").json()["state"] == "running"
    work(line)
    assert api.get(f"/runs/{run['id']}").json()["state"] == "succeeded"


def test_retry__of_a_run_without_a_dead_step_is_409(api, line, run):
    refused = api.post(f"/runs/{run['id']}/retry")
    assert (refused.status_code, refused.json()["current"]["id"]) == (409, run["id"])
    assert "none of its steps is dead" in refused.json()["detail"]


def test_retry__of_a_run_whose_dead_step_was_given_up_says_so(api, line, tmp_path):
    body = {"automation": "lab.fragile", "input": {"folder": str(tmp_path)}}
    run = api.send("/runs", body).json()
    work(line)
    letter = api.get("/dead-letters").json()["results"][0]
    api.post(f"/dead-letters/{letter['id']}/discard")
    refused = api.post(f"/runs/{run['id']}/retry")
    assert (refused.status_code, "given up" in refused.json()["detail"]) == (409, True)


def change(api, run, body):
    return api.patch(f"/runs/{run['id']}", body, content_type="application/json")


def test_change__of_priority_moves_the_steps_that_wait(api, line, run):
    changed = change(api, run, {"priority": 7, "tags": ["vip"]})
    assert (changed.status_code, changed.json()["priority"]) == (200, 7)
    assert changed.json()["tags"] == ["vip"]
    assert set(StepRun.objects.values_list("priority", flat=True)) == {7}
    events = api.get(f"/runs/{run['id']}/events").json()["results"]
    told = next(event for event in events if event["kind"] == "run.amended")
    assert (told["actor"], told["data"]) == ("tester", {"priority": 7, "tags": ["vip"]})
    work(line)
    assert api.get(f"/runs/{run['id']}").json()["state"] == "succeeded"


def test_change__of_priority_reaches_steps_that_a_retry_brings_back(api, line, tmp_path):
    body = {"automation": "lab.fragile", "input": {"folder": str(tmp_path)}}
    run = api.send("/runs", body).json()
    work(line)
    assert change(api, run, {"priority": 50}).json()["state"] == "blocked"
    (tmp_path / "mended").touch()
    api.post(f"/runs/{run['id']}/retry")
    waiting = StepRun.objects.exclude(state="succeeded")
    assert set(waiting.values_list("priority", flat=True)) == {50}


def test_change__of_priority_reaches_the_items_of_a_map_that_expands_meanwhile(api, line, run):
    item = """
        INSERT INTO engine_steprun (run_id, key, map_index, kind, lane, queue, state, pending,
            priority, ready_at, dispatched_at, dispatches, attempt, failures, crashes, worker,
            cancel_requested, error_code, error_message)
        SELECT s.run_id, 'item', 0, 'step', s.lane, s.lane, 'ready', 0, r.priority, now(), now(),
            0, 0, 0, 0, '', false, '', ''
        FROM engine_steprun s JOIN engine_run r ON r.id = s.run_id LIMIT 1
    """
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    def ask():
        try:
            return change(api, run, {"priority": 9}).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads, psycopg.connect(_dsn()) as other:
        # As a planner does it: the run held, its items inserted with the priority it has.
        other.execute("SELECT 1 FROM engine_run WHERE id = %s FOR SHARE", [run["id"]])
        other.execute(item)
        asked = threads.submit(ask)
        eventually(lambda: sql.rows(waits)[0].count, within=5, what="the change to wait")
        other.commit()
        assert asked.result() == 200
    assert set(StepRun.objects.values_list("priority", flat=True)) == {9}


def test_change__is_described_without_defaults_that_would_erase(api, db):
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    found = [schemas[name] for name in schemas if "RunChange" in name]
    assert found
    assert not any("default" in field for one in found for field in one["properties"].values())


def test_change__of_the_deadline_sets_and_takes_it_away(api, line, run):
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    changed = change(api, run, {"deadline_at": ahead}).json()
    assert datetime.fromisoformat(changed["deadline_at"]) == datetime.fromisoformat(ahead)
    kept = change(api, run, {"priority": 1}).json()
    assert kept["deadline_at"] == changed["deadline_at"]
    assert change(api, run, {"deadline_at": None}).json()["deadline_at"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"state": "succeeded"},
        {"input": {}},
        {"priority": 101},
        {"priority": None},
        {"tags": [""]},
        {"deadline_at": "2020-01-01T00:00:00Z"},
    ],
)
def test_change__refuses_what_cannot_be_changed(api, line, run, body):
    refused = change(api, run, body)
    assert refused.status_code == 400
    assert refused.json()["errors"]
    shown = api.get(f"/runs/{run['id']}").json()
    assert (shown["priority"], shown["tags"], shown["deadline_at"]) == (0, [], None)


def test_change__of_a_run_that_has_ended_is_409(api, line, run):
    work(line)
    refused = change(api, run, {"priority": 1})
    assert (refused.status_code, refused.json()["current"]["state"]) == (409, "succeeded")
    assert set(StepRun.objects.values_list("priority", flat=True)) == {0}
    missing = api.patch(f"/runs/{UUID(int=1)}", {"priority": 1}, content_type="application/json")
    assert missing.status_code == 404
