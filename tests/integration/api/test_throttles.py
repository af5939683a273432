"""Who calls too often is told so, and when to come again."""

from datetime import UTC, datetime

import pytest
from django.test import Client
from standardwebhooks import Webhook

from config import health
from engine.access.throttling import Rate
from engine.models import Run
from engine.webhooks import incoming
from orchestration import call_counter
from tests.integration.faces import ApiClient, token

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def rates(settings, broker):
    """Rates so slow that nothing comes back during a test; an empty counter."""
    settings.THROTTLE_WAIT_SECONDS = 5
    settings.THROTTLE_RATES = {
        kind: Rate(kind, limit, 3600)
        for kind, limit in {"read": 5, "write": 3, "anonymous": 4, "hook": 2}.items()
    }
    call_counter.counter._closed_until = 0.0


def test_call__tells_its_caller_where_it_stands(api):
    answered = api.get("/runs")
    assert answered.status_code == 200
    assert answered["RateLimit-Policy"] == '"read";q=5;w=3600'
    assert answered["RateLimit"] == '"read";r=4;t=720'
    assert api.get("/runs")["RateLimit"].startswith('"read";r=3;t=14')


def test_call__too_many_is_a_problem_that_says_when_to_come_again(api):
    assert [api.get("/runs").status_code for _ in range(6)] == [200] * 5 + [429]
    refused = api.get("/runs")
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "throttled"
    assert "5 calls (read) in 3600 seconds" in refused.json()["detail"]
    assert 1 <= int(refused["Retry-After"]) <= 720
    assert refused["RateLimit"].startswith('"read";r=0;t=')


def test_call__that_writes_is_counted_apart(api):
    assert [api.send("/runs/0/cancel").status_code for _ in range(4)] == [404] * 3 + [429]
    assert api.get("/runs").status_code == 200


def test_subject__has_its_own_count(api):
    while api.get("/runs").status_code == 200:
        pass
    other = ApiClient()
    other.bearer = token("runs.*", subject="somebody-else")
    assert other.get("/runs").status_code == 200
    mine = ApiClient()
    mine.bearer = token("runs.read", subject="tester", ttl_seconds=77)
    assert mine.get("/runs").status_code == 429, "another token of the same subject"


def test_call__without_a_valid_token_counts_for_its_address(api):
    api.bearer = "guessed"
    assert [api.get("/runs").status_code for _ in range(5)] == [401] * 4 + [429]
    assert api.get("/runs", REMOTE_ADDR="192.0.2.7").status_code == 401
    assert ApiClient().get("/runs").status_code == 200, "a valid token is not its address"


def test_call__without_the_scope_counts_as_well():
    client = ApiClient("departments.read")
    assert [client.get("/runs").status_code for _ in range(6)] == [403] * 5 + [429]


def test_sign_in__counts_once_a_try(api):
    codes = [
        api.send("/auth/token", {"username": f"nobody-{n}", "password": "x"}).status_code
        for n in range(5)
    ]
    assert codes == [401] * 4 + [429]


def test_description__is_throttled_too(client):
    codes = [client.get("/openapi.json").status_code for _ in range(5)]
    assert codes == [200] * 4 + [429]


@pytest.fixture
def prober():
    yield
    health.prober.stop()


@pytest.mark.parametrize("path", ["/livez", "/health", "/metrics", "/readyz"])
def test_health__is_not_counted(client, prober, path):
    for _ in range(8):
        answered = client.get(path)
        assert answered.status_code in {200, 503}
        assert "RateLimit" not in answered


def test_kind__without_a_rate_has_no_limit(api, settings):
    settings.THROTTLE_RATES = {}
    for _ in range(8):
        answered = api.get("/runs")
        assert answered.status_code == 200
        assert "RateLimit" not in answered


@pytest.fixture
def hooks(line):
    """The tokens of a hook whose callers sign and of one whose callers need not."""
    made = {}
    for name, signed in (("signed", True), ("open", False)):
        _, made[name], secret = incoming.create(
            automation="lab.squares", actor="test", signed=signed
        )
        made["secret"] = made.get("secret") or secret
    return made


def call_hook(token, address="192.0.2.1", secret="", number=0):
    body, moment, name = '{"count": 2}', datetime.now(UTC), f"msg_{number}"
    sent = {"webhook-id": name}
    if secret:
        sent["webhook-timestamp"] = str(int(moment.timestamp()))
        sent["webhook-signature"] = Webhook(secret).sign(name, moment, body)
    return Client().post(
        f"/hooks/{token}",
        body,
        content_type="application/json",
        headers=sent,
        REMOTE_ADDR=address,
    )


def test_hook__is_counted_by_itself_from_whatever_address(hooks):
    answered = [call_hook(hooks["open"], f"192.0.2.{n}", number=n) for n in range(3)]
    assert [one.status_code for one in answered] == [202, 202, 429]
    assert answered[0]["RateLimit-Policy"] == '"hook";q=2;w=3600'
    assert answered[2].json()["code"] == "throttled"
    assert int(answered[2]["Retry-After"]) > 0
    assert Run.objects.count() == 2
    other = call_hook(hooks["signed"], secret=hooks["secret"])
    assert other.status_code == 202, "another hook has its own"


def test_hook__is_not_used_up_by_who_cannot_sign(hooks):
    codes = [call_hook(hooks["signed"], number=n).status_code for n in range(5)]
    assert codes == [401] * 4 + [429], "they count for their address"
    answered = call_hook(hooks["signed"], "192.0.2.9", secret=hooks["secret"])
    assert (answered.status_code, answered["RateLimit"][:9]) == (202, '"hook";r=')
    assert call_hook(hooks["signed"], secret=hooks["secret"], number=7).status_code == 202


def test_hook__that_nobody_has_counts_for_the_address(hooks):
    assert [call_hook(f"hook_{n}").status_code for n in range(5)] == [404] * 4 + [429]
    assert call_hook(hooks["open"]).status_code == 202


def test_hook__counts_for_its_address_where_no_rate_is_set_for_hooks(hooks, settings):
    del settings.THROTTLE_RATES["hook"]
    codes = [call_hook(hooks["open"], number=n).status_code for n in range(5)]
    assert codes == [202] * 4 + [429]
