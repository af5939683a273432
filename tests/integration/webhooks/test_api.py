"""`/webhooks` of the API, and `manage.py webhooks`."""

import json
from typing import get_args

import pytest
from django.core.cache import cache
from django.db.models import F

from engine import runs
from engine.api import webhooks as views
from engine.models import WebhookDelivery, WebhookEndpoint
from engine.webhooks import endpoints
from tests.integration.commands.test_commands import command, document, refused
from tests.integration.faces import ApiClient
from tests.integration.webhooks.conftest import settle
from tests.receiver import Receiver

URL = "https://hooks.example/in"


@pytest.fixture(autouse=True)
def no_leftovers(settings):
    settings.STATIC_ROOT = None
    cache.clear()


@pytest.fixture
def api(platform):
    return ApiClient("webhooks.*", "runs.*")


def made(api, **values):
    answered = api.send("/webhooks", {"url": URL} | values)
    assert answered.status_code == 201, answered.content
    return answered.json()


def put(api, place, body):
    return api.patch(place, body, content_type="application/json")


def test_create__shows_the_secret_once(api):
    answered = api.send("/webhooks", {"url": URL, "event_types": ["run.failed"]})
    body = answered.json()
    assert answered["Location"] == f"/webhooks/{body['id']}"
    assert body["secret"].startswith("whsec_")
    assert (body["enabled"], body["event_types"], body["created_by"]) == (
        True,
        ["run.failed"],
        "tester",
    )
    others = [answered["Location"], "/webhooks"]
    assert all("whsec_" not in api.get(place).content.decode() for place in others)


@pytest.mark.parametrize(
    ("body", "pointer", "word"),
    [
        ({}, "/url", "required"),
        ({"url": "http://hooks.example:80:80/"}, "/url", "URL"),
        ({"url": "https://169.254.169.254/"}, "/url", "WEBHOOK_ALLOWED_NETWORKS"),
        ({"url": "https://x.example/\x00"}, "", "NUL"),
        ({"url": URL, "event_types": ["run.dreamt"]}, "/event_types/0", "run.completed"),
        ({"url": URL, "event_types": "run.failed"}, "/event_types", "list"),
        ({"url": URL, "department": "nowhere"}, "/department", "unknown"),
        ({"url": URL, "secret": "mine"}, "/secret", "unknown"),
        ({"url": URL, "description": "x" * 201}, "/description", "200"),
    ],
)
def test_create__names_the_field_at_fault(api, body, pointer, word):
    answered = api.send("/webhooks", body)
    problem = answered.json()
    assert answered.status_code == 400
    assert word in json.dumps(problem)
    if pointer:
        assert problem["errors"][0]["pointer"] == pointer
    assert not WebhookEndpoint.objects.exists()


def test_event_types__are_the_ones_that_are_told():
    assert list(get_args(views.EventType)) == list(endpoints.EVENT_TYPES)


def test_change__changes_what_is_named(api):
    place = f"/webhooks/{made(api, event_types=['run.failed'])['id']}"
    changed = put(api, place, {"description": "ours"}).json()
    assert (changed["description"], changed["url"]) == ("ours", URL)
    assert changed["event_types"] == ["run.failed"]
    for body in ({}, {"department": "lab"}, {"url": "https://[::1]/"}, {"url": ""}):
        refusal = put(api, place, body)
        assert refusal.status_code == 400, body
    assert refusal.json()["errors"][0]["pointer"] == "/url"


def test_rotate__shows_another_secret_once(api):
    first = made(api)
    answered = api.send(f"/webhooks/{first['id']}/rotate-secret").json()
    assert answered["secret"] != first["secret"]
    assert answered["old_secret_until"]


def test_disable_and_enable(api):
    place = f"/webhooks/{made(api)['id']}"
    off = api.send(f"{place}/disable").json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "disabled by tester")
    refusal = api.send(f"{place}/test")
    assert (refusal.status_code, refusal.json()["current"]["enabled"]) == (409, False)
    assert api.send(f"{place}/enable").json()["enabled"] is True
    listed = api.get("/webhooks?enabled=false").json()["results"]
    assert listed == []


def test_delete__is_final(api):
    place = f"/webhooks/{made(api)['id']}"
    assert api.delete(place).status_code == 204
    assert api.get(place).status_code == api.delete(place).status_code == 404


def test_list__pages_by_key(api):
    ids = [made(api)["id"] for _ in range(3)]
    first = api.get("/webhooks?limit=2").json()
    assert [row["id"] for row in first["results"]] == ids[:0:-1]
    second = api.get(first["next"]).json()
    assert ([row["id"] for row in second["results"]], second["next"]) == (ids[:1], None)


def test_log__shows_what_was_told_and_resends(api, submitted, receiver, outbox, loop):
    place = f"/webhooks/{made(api, url=receiver.url)['id']}"
    runs.cancel(run_id=submitted, actor="test")
    outbox()
    receiver.status, receiver.body = 500, b"not today"
    settle(loop)
    log = api.get(f"{place}/deliveries?status=pending&limit=1").json()
    (row,) = log["results"]
    assert (row["response_code"], row["excerpt"], row["attempt"]) == (500, "not today", 1)
    assert row["next_at"]
    assert row["payload"]["data"]["run_id"] == str(submitted)
    assert api.get(log["next"]).json()["results"]
    assert api.get(f"{place}/deliveries?event_type=run.dreamt").json()["results"] == []
    receiver.status = 200
    WebhookDelivery.objects.update(next_at=F("created_at"))
    settle(loop)
    one = f"{place}/deliveries/{row['id']}"
    assert api.get(one).json()["status"] == "delivered"
    calls = len(receiver.calls)
    again = api.send(f"{one}/resend")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    settle(loop)
    assert len(receiver.calls) == calls + 1
    assert api.get(one).json()["message_id"] == receiver.calls[-1].headers["webhook-id"]


def test_resend__of_what_is_being_sent_is_409(api, receiver, loop):
    place = f"/webhooks/{made(api, url=receiver.url)['id']}"
    sent = api.send(f"{place}/test")
    assert sent.status_code == 202
    receiver.answering.clear()
    loop.turn()
    refusal = api.send(f"{sent['Location']}/resend")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "state_conflict")
    assert refusal.json()["current"]["status"] == "pending"


def test_test__tells_what_comes_of_it(api, receiver, loop):
    with Receiver() as gone:
        url = gone.url
    sent = api.send(f"/webhooks/{made(api, url=url)['id']}/test")
    settle(loop)
    row = api.get(sent["Location"]).json()
    assert (row["event_type"], row["error_code"]) == ("webhook.test", "connection_failed")


@pytest.mark.parametrize("number", ["0", "x", "99999999999999999999", "7"])
def test_address__of_nothing_is_404(api, number):
    for place in (f"/webhooks/{number}", f"/webhooks/{number}/deliveries"):
        assert api.get(place).status_code == 404
    mine = made(api)["id"]
    assert api.get(f"/webhooks/{mine}/deliveries/{number}").status_code == 404
    assert api.send(f"/webhooks/{mine}/deliveries/{number}/resend").status_code == 404


# --- who may -------------------------------------------------------------------------------


def test_scopes__reading_is_not_writing(api, platform):
    mine = made(api)["id"]
    reader = ApiClient("webhooks.read")
    assert reader.get("/webhooks").status_code == 200
    for place in ("", f"/{mine}/test", f"/{mine}/rotate-secret", f"/{mine}/disable"):
        assert reader.send(f"/webhooks{place}", {"url": URL} if not place else None).json()[
            "scope"
        ] == ("webhooks.write")
    assert put(reader, f"/webhooks/{mine}", {"description": "x"}).status_code == 403
    assert reader.delete(f"/webhooks/{mine}").status_code == 403
    assert ApiClient("runs.*").get("/webhooks").status_code == 403


def test_departments__are_told_and_seen_apart(api, platform):
    everyones, labs = made(api)["id"], made(api, department="lab")["id"]
    couriers = made(api, department="courier")["id"]
    keeper = ApiClient("lab:webhooks.read", "lab:webhooks.write")
    assert [row["id"] for row in keeper.get("/webhooks").json()["results"]] == [labs]
    assert keeper.send(f"/webhooks/{labs}/disable").status_code == 200
    for other in (everyones, couriers):
        assert keeper.get(f"/webhooks/{other}").status_code == 404
        assert keeper.send(f"/webhooks/{other}/rotate-secret").status_code == 404
        assert keeper.get(f"/webhooks/{other}/deliveries").status_code == 404
    assert keeper.send("/webhooks", {"url": URL, "department": "lab"}).status_code == 201
    for department in ("", "courier"):
        body = {"url": URL, "department": department}
        assert keeper.send("/webhooks", body).status_code == 403


def test_log__hides_what_is_said_from_those_who_see_no_payload(
    api, submitted, receiver, outbox, loop
):
    mine = made(api, url=receiver.url)["id"]
    receiver.body, receiver.status = b"a secret of theirs", 200
    runs.cancel(run_id=submitted, actor="test")
    outbox()
    settle(loop)
    shown = ApiClient("webhooks.read").get(f"/webhooks/{mine}/deliveries").json()["results"][0]
    assert (shown["excerpt"], shown["payload"], shown["payloads_hidden"]) == (None, None, True)
    assert shown["response_code"] == 200


# --- the command ---------------------------------------------------------------------------


def test_command__adds_lists_and_rotates(platform):
    text = command("webhooks", "add", URL, "--event", "run.failed", "--department", "lab")
    assert "whsec_" in text
    (listed,) = document("webhooks", "list")
    assert (listed["url"], listed["event_types"], listed["department"]) == (
        URL,
        ["run.failed"],
        "lab",
    )
    assert "secret" not in listed
    assert URL in command("webhooks", "list", "--department", "lab")
    rotated = document("webhooks", "rotate", str(listed["id"]))
    assert rotated["secret"] not in text
    assert "disabled by command:" in command("webhooks", "disable", str(listed["id"]))
    assert "enabled" in command("webhooks", "enable", str(listed["id"]))


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["add", "https://127.0.0.2:1/x y"], "url"),
        (["add", "https://10.0.0.1/"], "not a public address"),
        (["add", URL, "--department", "nowhere"], "department"),
        (["rotate", "7"], "no webhook 7"),
        (["disable", "x"], "number"),
        (["deliveries", "7"], "no webhook 7"),
        (["list", "--limit", "0"], "--limit"),
    ],
)
def test_command__refuses_in_one_line(platform, args, word):
    assert word in refused("webhooks", *args)


def test_command__shows_the_log_and_resends(told, submitted, receiver, outbox, loop):
    number = str(told[0].pk)
    runs.cancel(run_id=submitted, actor="test")
    outbox()
    settle(loop)
    shown = document("webhooks", "deliveries", number, "--run", str(submitted))
    assert {row["status"] for row in shown} == {"delivered"}
    assert "delivered" in command("webhooks", "deliveries", number)
    again = document("webhooks", "resend", number, str(shown[0]["id"]))
    assert again[0]["status"] == "pending"
    assert "webhook.test" in command("webhooks", "test", number)
    assert "Nothing is changed" in command("webhooks", "remove", number)
    assert "Removed 1" in command("webhooks", "remove", number, "--apply")
    assert not WebhookEndpoint.objects.exists()
