"""`POST /hooks/{token}`: who knows the address, and signs, starts an automation once a call."""

import base64
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.core.cache import cache
from django.db import connection, connections
from django.db.models import F
from django.test import Client
from standardwebhooks import Webhook

from config.logs import redaction
from engine import registry, runs
from engine.api import hooks
from engine.errors import InputInvalidError
from engine.models import IncomingHook, Run, StepRun
from engine.webhooks import incoming, signing
from tests.integration.commands.test_commands import command, document, refused
from tests.integration.faces import ApiClient

BODY = b'{"count": 2}'


@pytest.fixture(autouse=True)
def no_leftovers(settings):
    settings.STATIC_ROOT = None
    cache.clear()


@pytest.fixture
def api(platform):
    return ApiClient("webhooks.*", "runs.*")


@pytest.fixture
def hook(platform):
    """A signed hook: its token and its secret."""
    _, token, secret = incoming.create(automation="lab.squares", actor="test")
    return token, secret


def headers(secret, body=BODY, *, message_id="msg_1", at=None):
    moment = at or datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, moment, body.decode()),
    }


def call(token, body=BODY, sent=None, *, content_type="application/json"):
    client = Client(raise_request_exception=False)
    return client.post(f"/hooks/{token}", body, content_type=content_type, headers=sent or {})


# --- one call, one run ----------------------------------------------------------------------


def test_call__becomes_a_run_that_is_planned_when_it_is_answered(hook):
    token, secret = hook
    answered = call(token, BODY, headers(secret))
    assert answered.status_code == 202, answered.content
    run = Run.objects.get()
    assert answered.json() == {"run_id": str(run.pk), "created": True}
    assert answered["Location"] == f"/runs/{run.pk}"
    assert (run.automation, run.department, run.trigger) == ("lab.squares", "lab", "webhook")
    assert run.input["count"] == 2
    assert (run.created_by, run.correlation_id) == (
        f"hook:{IncomingHook.objects.get().pk}",
        "msg_1",
    )
    assert StepRun.objects.filter(run=run).exists(), "its whole plan stands"


def test_call__that_comes_again_is_the_same_run(hook):
    token, secret = hook
    first = call(token, BODY, headers(secret)).json()
    later = datetime.now(UTC) + timedelta(seconds=60)
    again = call(token, BODY, headers(secret, at=later))
    assert (again.status_code, again.json()) == (200, first | {"created": False})
    other = call(token, BODY, headers(secret, message_id="msg_2"))
    assert other.status_code == 202
    assert Run.objects.count() == 2


def test_call__by_many_at_once_is_one_run(hook):
    token, secret = hook
    sent = headers(secret)

    def post(_):
        try:
            answered = call(token, BODY, sent)
            return answered.status_code, answered.json()["run_id"]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(post, range(18)))
    assert sorted(status for status, _ in found) == [200] * 17 + [202]
    assert {run for _, run in found} == {str(Run.objects.get().pk)}


def test_call__of_another_hook_with_the_same_id_is_another_run(hook, platform):
    token, secret = hook
    _, other, others = incoming.create(automation="lab.squares", actor="test")
    assert call(token, BODY, headers(secret)).status_code == 202
    assert call(other, BODY, headers(others)).status_code == 202
    assert Run.objects.count() == 2


# --- signatures ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,ä"},
        {"webhook-signature": "v2," + "A" * 44},
        {"webhook-id": ""},
        {"webhook-id": "msg_9"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "1e400"},
        {"webhook-timestamp": "0"},
    ],
)
def test_signature__that_is_not_right_is_401_and_starts_nothing(hook, change):
    token, secret = hook
    answered = call(token, BODY, headers(secret) | change)
    assert (answered.status_code, answered.json()["code"]) == (401, "signature_invalid")
    assert answered["WWW-Authenticate"] == "StandardWebhooks"
    assert not Run.objects.exists()


def test_signature__is_over_the_bytes_as_they_came(hook):
    token, secret = hook
    spaced = b'{ "count":2 }'
    assert call(token, spaced, headers(secret, BODY)).status_code == 401
    assert call(token, spaced, headers(secret, spaced)).status_code == 202
    assert call(token, b"\xff\xfe", headers(secret, BODY)).status_code == 401


@pytest.mark.parametrize("minutes", [-6, 6])
def test_signature__holds_for_five_minutes(hook, minutes):
    token, secret = hook
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    assert call(token, BODY, headers(secret, at=at)).status_code == 401
    near = datetime.now(UTC) + timedelta(minutes=minutes * 2 / 3)
    assert call(token, BODY, headers(secret, at=near)).status_code == 202


def test_rotation__old_and_new_secret_are_taken_until_the_old_ones_time_is_over(hook):
    token, old = hook
    mine = IncomingHook.objects.get()
    _, new = incoming.rotate_secret(hook_id=mine.pk, actor="test")
    for number, secret in enumerate((old, new)):
        assert call(token, BODY, headers(secret, message_id=f"m{number}")).status_code == 202
    IncomingHook.objects.update(old_secret_until=F("created_at"))
    assert call(token, BODY, headers(old, message_id="m3")).status_code == 401
    assert call(token, BODY, headers(new, message_id="m4")).status_code == 202


def test_secret__may_be_the_other_sides(platform):
    theirs = signing.new_secret()
    _, token, secret = incoming.create(automation="lab.squares", actor="test", secret=theirs)
    assert secret == theirs
    assert call(token, BODY, headers(theirs)).status_code == 202
    for bad in ("whsec_", "whsec_AAAA", "secret", theirs[6:], "whsec_" + "!" * 44):
        with pytest.raises(InputInvalidError, match="whsec_"):
            incoming.create(automation="lab.squares", actor="test", secret=bad)


def test_secret__that_cannot_be_read_puts_callers_off(hook, settings):
    token, secret = hook
    settings.MASTER_KEY = "quite another key, which never sealed anything"
    answered = call(token, BODY, headers(secret))
    assert (answered.status_code, answered.json()["code"]) == (503, "hook_unavailable")
    assert answered["Retry-After"] == "60"
    assert "MASTER_KEY" not in answered.content.decode()


def test_unsigned__takes_calls_without_a_signature_and_dedupes_by_id(platform):
    _, token, secret = incoming.create(automation="lab.squares", actor="test", signed=False)
    assert secret == ""
    assert call(token).status_code == 202
    assert call(token).status_code == 202, "without an id each is another call"
    assert call(token, BODY, {"webhook-id": "a"}).status_code == 202
    assert call(token, BODY, {"webhook-id": "a"}).status_code == 200
    assert Run.objects.count() == 3
    for bad in ("two words", "x" * 201):
        answered = call(token, BODY, {"webhook-id": bad})
        assert answered.status_code == 400
        assert answered.json()["errors"][0]["pointer"] == "webhook-id"


# --- what is not there -------------------------------------------------------------------------


def test_token__that_is_nobodys_is_answered_like_a_disabled_hook(hook):
    token, secret = hook
    IncomingHook.objects.update(enabled=False)
    shapes = set()
    for wrong in (token, "hook_" + "x" * 43, "x", "x" * 5000, "hook_%00", "h%C3%A4", token + "x"):
        answered = call(wrong, BODY, headers(secret))
        body = answered.json()
        assert body.pop("request_id")
        shapes.add((answered.status_code, json.dumps(body), answered["Content-Type"]))
    assert len(shapes) == 1
    assert next(iter(shapes))[0] == 404
    assert not Run.objects.exists()


def test_token__is_not_readable_in_the_database(hook):
    token, secret = hook
    incoming.rotate_secret(hook_id=IncomingHook.objects.get().pk, actor="test")
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(h)::text FROM engine_incominghook h")
        (row,) = cursor.fetchone()
    assert token.removeprefix("hook_") not in row
    assert secret not in row
    assert "whsec_" not in row


def test_token__is_in_no_log_line(hook, monkeypatch, caplog):
    token, secret = hook

    def fail(**_values):
        raise RuntimeError("broken")

    monkeypatch.setattr(runs, "submit", fail)
    with caplog.at_level(logging.DEBUG):
        assert call(token, BODY, headers(secret)).status_code == 500
    spoken = [record for record in caplog.records if token in record.getMessage()]
    assert spoken, "Django logs the address of what breaks"
    for record in spoken:
        event = {"event": record.getMessage(), "request": record.request}
        shown = str(redaction.clean(None, "error", event))
        assert token not in shown
        assert "/hooks/[hidden]" in shown


def test_method__other_than_post_is_405(hook):
    assert Client().get(f"/hooks/{hook[0]}").status_code == 405


def test_authorization__is_neither_needed_nor_read(hook):
    token, secret = hook
    sent = headers(secret) | {"authorization": "Bearer nonsense"}
    assert call(token, BODY, sent).status_code == 202


# --- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "pointer", "word"),
    [
        (b'{"count": "many"}', "/count", "integer"),
        (b'{"count": 2, "more": 1}', "/more", "unknown"),
        (b"[1]", "", "object"),
        (b"{no", None, "JSON"),
        (b"", None, "JSON"),
        (b'{"count": NaN}', None, "NaN"),
        (b'{"count": 1, "count": 2}', None, "twice"),
        (b'{"count": "\\u0000"}', None, "NUL"),
        (b"[" * 100_000, None, "nested"),
    ],
)
def test_input__that_is_not_valid_is_400_naming_its_place(hook, body, pointer, word):
    token, secret = hook
    answered = call(token, body, headers(secret, body))
    problem = answered.json()
    assert answered.status_code == 400, problem
    assert word in json.dumps(problem)
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer
    assert not Run.objects.exists()
    assert call(token, BODY, headers(secret)).status_code == 202, "its id is free"


def test_input__may_be_the_body_under_a_field(platform):
    _, token, secret = incoming.create(
        automation="courier.letter", actor="test", input_field="address"
    )
    body = b'"Main Street 1"'
    assert call(token, body, headers(secret, body)).status_code == 202
    assert Run.objects.get().input["address"] == "Main Street 1"
    answered = call(token, b"[7]", headers(secret, b"[7]", message_id="m2"))
    assert (answered.status_code, answered.json()["errors"][0]["pointer"]) == (400, "")


def test_body__above_the_limit_is_413(hook, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    token, secret = hook
    body = json.dumps({"count": 2, "x": "y" * 2000}).encode()
    assert call(token, body, headers(secret, body)).status_code == 413


def test_automation__that_is_gone_is_409(hook, monkeypatch):
    token, secret = hook
    monkeypatch.delitem(registry.automations, "lab.squares")
    answered = call(token, BODY, headers(secret))
    assert (answered.status_code, answered.json()["code"]) == (409, "state_conflict")


# --- its keepers ------------------------------------------------------------------------------


def test_create__shows_address_and_secret_once(api, settings):
    settings.PUBLIC_URL = "https://engine.example"
    answered = api.send("/webhooks/incoming", {"automation": "lab.squares"})
    body = answered.json()
    assert answered.status_code == 201, body
    assert body["url"].startswith("https://engine.example/hooks/hook_")
    assert (body["signed"], body["department"]) == (True, "lab")
    token = body["url"].rpartition("/")[2]
    assert call(token, BODY, headers(body["secret"])).status_code == 202
    for place in ("/webhooks/incoming", answered["Location"]):
        shown = api.get(place).content.decode()
        assert token not in shown
        assert "whsec_" not in shown


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/automation"),
        ({"automation": "no.such"}, "/automation"),
        ({"automation": "lab.squares", "input_field": "nothing"}, "/input_field"),
        ({"automation": "lab.squares", "secret": "mine"}, "/secret"),
        ({"automation": "lab.squares", "signed": False, "secret": "whsec_" + "A" * 44}, "/secret"),
        ({"automation": "lab.squares", "description": "x" * 201}, "/description"),
        ({"automation": "lab.squares", "token": "mine"}, "/token"),
    ],
)
def test_create__names_the_field_at_fault(api, body, pointer):
    answered = api.send("/webhooks/incoming", body)
    assert answered.status_code == 400, answered.content
    assert answered.json()["errors"][0]["pointer"] == pointer
    assert not IncomingHook.objects.exists()


def test_change_rotate_and_delete(api):
    body = api.send("/webhooks/incoming", {"automation": "lab.squares"}).json()
    place, token = f"/webhooks/incoming/{body['id']}", body["url"].rpartition("/")[2]
    off = api.patch(place, {"enabled": False}, content_type="application/json").json()
    assert off["enabled"] is False
    assert call(token, BODY, headers(body["secret"])).status_code == 404
    api.patch(place, {"enabled": True}, content_type="application/json")
    rotated = api.send(f"{place}/rotate-secret").json()
    assert rotated["secret"] != body["secret"]
    assert call(token, BODY, headers(rotated["secret"])).status_code == 202
    for bad in ({}, {"automation": "courier.letter"}, {"input_field": "nothing"}):
        assert api.patch(place, bad, content_type="application/json").status_code == 400
    assert api.delete(place).status_code == 204
    assert api.get(place).status_code == 404
    assert Run.objects.count() == 1
    unsigned = api.send("/webhooks/incoming", {"automation": "lab.squares", "signed": False}).json()
    refusal = api.send(f"/webhooks/incoming/{unsigned['id']}/rotate-secret")
    assert (refusal.status_code, refusal.json()["current"]["signed"]) == (409, False)


def test_scopes__who_makes_a_hook_must_be_able_to_start_what_it_starts(api):
    body = {"automation": "lab.squares"}
    for held, missing in (
        (["webhooks.read"], "webhooks.write"),
        (["webhooks.write"], "runs.write"),
        (["webhooks.write", "courier:runs.write", "lab:runs.read"], "runs.write"),
        (["courier:webhooks.write", "runs.write", "lab:webhooks.read"], "webhooks.write"),
    ):
        answered = ApiClient(*held).send("/webhooks/incoming", body)
        assert (answered.status_code, answered.json()["scope"]) == (403, missing)
    keeper = ApiClient("lab:webhooks.*", "lab:runs.write")
    mine = keeper.send("/webhooks/incoming", body).json()["id"]
    other = api.send("/webhooks/incoming", {"automation": "courier.letter"}).json()["id"]
    listed = keeper.get("/webhooks/incoming").json()["results"]
    assert [row["id"] for row in listed] == [mine]
    assert keeper.get(f"/webhooks/incoming/{other}").status_code == 404
    assert keeper.delete(f"/webhooks/incoming/{other}").status_code == 404
    assert keeper.delete(f"/webhooks/incoming/{mine}").status_code == 204


def test_create__for_what_one_may_not_see_is_of_an_unknown_automation(api):
    keeper = ApiClient("lab:webhooks.*", "lab:runs.*", "webhooks.read")
    blind = ApiClient("lab:webhooks.*", "lab:runs.write")
    seen = keeper.send("/webhooks/incoming", {"automation": "courier.letter"})
    assert (seen.status_code, seen.json()["scope"]) == (403, "webhooks.write")
    told = []
    for automation in ("courier.letter", "courier.nothing", "no.such"):
        answered = blind.send("/webhooks/incoming", {"automation": automation})
        body = answered.json()
        assert (answered.status_code, body["code"]) == (400, "automation_unknown")
        assert "lab.squares" in body["detail"]
        told.append(body["detail"].replace(automation, "X"))
    assert len(set(told)) == 1, "what is there is answered as what is not"
    assert "courier." not in told[0]
    assert not IncomingHook.objects.exists()


def test_command__adds_disables_and_removes(platform):
    made = document("hooks", "add", "lab.squares", "--description", "shop")
    token = made["url"].rpartition("/")[2]
    number = str(made["id"])
    assert "shop" in command("hooks", "list", "--department", "lab")
    assert "disabled" in command("hooks", "disable", number)
    assert call(token, BODY, headers(made["secret"])).status_code == 404
    assert "enabled" in command("hooks", "enable", number)
    rotated = document("hooks", "rotate", number)
    assert call(token, BODY, headers(rotated["secret"])).status_code == 202
    assert "Address, shown this once" in command("hooks", "add", "lab.squares", "--unsigned")
    assert "no.such" not in command("hooks", "list")
    assert "automation" in refused("hooks", "add", "no.such")
    assert "input_field" in refused("hooks", "add", "lab.squares", "--input-field", "x")
    assert "no hook 99" in refused("hooks", "remove", "99")
    assert "Nothing is changed" in command("hooks", "remove", number)
    assert "Removed 1" in command("hooks", "remove", number, "--apply")
    assert IncomingHook.objects.count() == 1


@pytest.mark.parametrize("size", range(20, 70))
def test_secret__is_described_as_it_is_judged(size):
    secret = signing.SECRET_PREFIX + base64.b64encode(b"s" * size).decode()
    described = re.fullmatch(hooks.BASE64_FORM, secret) is not None
    try:
        signing.check_secret(secret)
    except ValueError:
        assert not described
    else:
        assert described
