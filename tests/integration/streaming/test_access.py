"""Who may listen: judged before the stream opens, and as long as it is open."""

from __future__ import annotations

import time
import uuid

import pytest
from django.core.management import call_command

from engine import runs
from engine.streaming.seats import seats
from tests.integration.faces import ApiClient, token
from tests.integration.streaming.test_streams import tell
from tests.integration.streaming.web import Web


@pytest.fixture
def api(settings):
    settings.STATIC_ROOT = None
    return ApiClient()


def test_stream__is_refused_as_any_other_request(api, run_id):
    path = f"/runs/{run_id}/stream"
    assert api.get(f"/runs/{uuid.uuid4()}/stream").status_code == 404
    assert api.get("/runs/nothing/stream").status_code == 404
    assert api.get("/departments/nowhere/stream").status_code == 404
    assert api.get(path, {"unknown": "1"}).status_code == 400
    refused = api.get(path, HTTP_ACCEPT="application/json")
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")
    assert refused["Content-Type"] == "application/problem+json"
    assert api.post(path).status_code == 405
    without = ApiClient("departments.read").get(path)
    assert (without.status_code, without.json()["scope"]) == (403, "runs.read")
    without = ApiClient("departments.read").get("/departments/lab/stream")
    assert (without.status_code, without.json()["scope"]) == (403, "runs.read")
    without = ApiClient("runs.read").get("/departments/lab/stream")
    assert (without.status_code, without.json()["scope"]) == (403, "departments.read")
    api.bearer = ""
    assert api.get(path).status_code == 401
    assert len(seats) == 0


def test_stream__asked_for_its_head_has_no_body(api, run_id):
    answer = api.head(f"/runs/{run_id}/stream")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    assert len(seats) == 0


def test_stream__too_many_are_refused_with_a_time_to_wait(start_web, listen, run_id):
    web = start_web(STREAMS_PER_PROCESS="2", STREAMS_PER_SUBJECT="1")
    path = f"/runs/{run_id}/stream"
    first = listen(web, path)
    first.hears("snapshot")
    second = listen(web, path)
    assert second.status == 429
    assert second.response.json()["code"] == "too_many_streams"
    assert int(second.response.headers["Retry-After"]) > 0
    other = listen(web, path, headers=Web.headers(subject="ben"))
    other.hears("snapshot")
    third = listen(web, path, headers=Web.headers(subject="cleo"))
    assert (third.status, third.response.json()["code"]) == (503, "too_many_streams")
    runs.cancel(run_id=run_id, actor="anna")
    first.ends()
    other.ends()
    assert listen(web, path).hears("end")


def test_stream__ends_within_seconds_of_its_token(web, listen, run_id):
    headers = {"Authorization": f"Bearer {token('runs.read', ttl_seconds=3)}"}
    stream = listen(web, f"/runs/{run_id}/stream", headers=headers)
    stream.hears("snapshot")
    stream.ends(within=15)
    assert stream.events[-1].name == "closed"
    assert stream.events[-1].data["code"] == "token_invalid"


def test_stream__ends_within_a_second_when_its_token_is_revoked(web, listen, run_id):
    bearer = token("runs.read", ttl_seconds=600)
    stream = listen(web, f"/runs/{run_id}/stream", headers={"Authorization": f"Bearer {bearer}"})
    stream.hears("snapshot")
    call_command("revoke_token", bearer)
    began = time.monotonic()
    stream.ends(within=20)
    took = time.monotonic() - began
    print(f"\nended {took:.2f} s after it was revoked")
    # Twice the promise: other work of this machine is no part of it.
    assert took < 2
    assert stream.events[-1].name == "closed"


def test_stream__shows_no_payload_to_who_may_not_see_it(web, listen, run_id):
    bearer = {"Authorization": f"Bearer {token('runs.read', ttl_seconds=60)}"}
    stream = listen(web, f"/runs/{run_id}/stream", headers=bearer)
    assert stream.hears("snapshot").data["payloads_hidden"] is True
    tell(run_id, hidden="canary")
    told = stream.hears("step.warning").data
    assert (told["data"], told["payloads_hidden"]) == (None, True)
