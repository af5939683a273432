import json

import jwt
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.urls import get_resolver

from engine.access import grants
from tests.integration.faces import ApiClient, token

pytestmark = pytest.mark.django_db

OPEN = {
    "home",
    "livez",
    "readyz",
    "health",
    "health-manager",
    "metrics",
    "openapi",
    "docs",
    "auth-token",
    "auth-refresh",
    "hook",  # the address itself is the secret, and the signature proves the caller
    "auth-revoke",  # a token in the body proves itself; anything else asks for one
}


def test_every_route__needs_a_token_unless_it_is_listed_as_open(client):
    routes = get_resolver().reverse_dict
    names = [name for name in routes if isinstance(name, str) and name not in OPEN]
    assert len(names) > 15
    for name in names:
        path = "/" + routes[name][0][0][0].replace("%(", "").replace(")s", "")
        for method in ("get", "post"):
            response = getattr(client, method)(path)
            assert response.status_code in {401, 405}, (method, path, response.status_code)
            if response.status_code == 401:
                assert response["WWW-Authenticate"].startswith("Bearer")
                assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("get", "/runs", "runs.read"),
        ("post", "/runs", "runs.write"),
        ("post", "/runs/0/cancel", "runs.write"),
        ("get", "/departments", "departments.read"),
        ("post", "/departments/lab/pause", "departments.write"),
        ("get", "/automations", "departments.read"),
        ("get", "/dead-letters", "dead_letters.read"),
        ("post", "/dead-letters/1/discard", "dead_letters.write"),
        ("get", "/artifacts/0", "artifacts.read"),
    ],
)
def test_token__without_the_scope_gets_403_naming_it(method, path, scope):
    other = "runs.read" if scope != "runs.read" else "runs.write"
    response = getattr(ApiClient(other), method)(path, content_type="application/json")
    assert response.status_code == 403
    assert response.json()["scope"] == scope
    assert scope in response.json()["detail"]


def test_wildcard__covers_its_prefix_only():
    assert ApiClient("runs.*").get("/runs").status_code == 200
    assert ApiClient("runs.*").get("/departments").status_code == 403
    assert ApiClient("admin.*").get("/runs").status_code == 403


def claiming(**claims):
    """Return a token signed with our key that says what we would never say."""
    said = jwt.decode(token("runs.read"), options={"verify_signature": False})
    return jwt.encode({**said, **claims}, settings.JWT_SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    "bad",
    [
        lambda: token("runs.read", ttl_seconds=-1),
        lambda: token("runs.read", key="another-key-that-is-long-enough-0123456789"),
        lambda: token("runs.read", kind="refresh"),
        lambda: token("runs.read")[:-3],
        lambda: "abc",
        lambda: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
        lambda: "é",
        lambda: claiming(sub=""),
        lambda: claiming(sub="a\x00b"),
        lambda: claiming(sub="x" * 151),
        lambda: claiming(exp=9 * 10**18),
        lambda: claiming(scopes=["runs.read", {"a": 1}]),
        lambda: claiming(aud="somebody-else"),
    ],
)
def test_token__that_is_wrong_gets_401(bad):
    client = ApiClient()
    client.bearer = bad()
    response = client.get("/runs")
    assert response.status_code == 401
    assert response.json()["code"] == "token_invalid"


def test_session__does_not_authorise_the_api(client):
    client.force_login(User.objects.create_superuser("root", "", "pw"))
    assert client.get("/runs").status_code == 401


def test_me__shows_subject_and_scopes():
    body = ApiClient("runs.read").get("/auth/me").json()
    assert (body["subject"], body["scopes"]) == ("tester", ["runs.read"])


def sign_in(api, password="pw"):
    return api.send("/auth/token", {"username": "ann", "password": password})


def test_sign_in__gives_the_scopes_of_the_users_roles(api):
    user = User.objects.create_user("ann", "", "pw")
    grants.grant(user=user, role="viewer", by="root")
    body = sign_in(api).json()
    assert body["scopes"] == [
        "runs.read", "departments.read", "dead_letters.read", "schedules.read"
    ]  # fmt: skip
    api.bearer = body["access"]
    assert api.get("/runs").status_code == 200
    assert api.send("/runs").status_code == 403


def test_sign_in__refuses_a_wrong_password_and_an_inactive_user(api):
    user = User.objects.create_user("ann", "", "pw")
    assert sign_in(api, "no").json()["code"] == "credentials_invalid"
    user.is_active = False
    user.save()
    assert sign_in(api).status_code == 401


def test_refresh__gives_a_new_token_until_the_password_changes(api):
    user = User.objects.create_superuser("ann", "", "pw")
    refresh = sign_in(api).json()["refresh"]
    api.bearer = api.send("/auth/refresh", {"refresh": refresh}).json()["access"]
    assert api.get("/runs").status_code == 200
    user.set_password("other")
    user.save()
    assert api.send("/auth/refresh", {"refresh": refresh}).status_code == 401


def test_refresh_token__opens_nothing_by_itself(api):
    User.objects.create_superuser("ann", "", "pw")
    api.bearer = sign_in(api).json()["refresh"]
    assert api.get("/auth/me").status_code == 401


def test_openapi__names_every_contract_path(client):
    body = json.loads(client.get("/openapi.json").content)
    assert body["openapi"].startswith("3.1")
    for path in (
        "/runs",
        "/runs/{run_id}/why",
        "/departments/{slug}/pause",
        "/auth/token",
        "/automations/{name}",
        "/dead-letters/{dead_letter_id}/requeue",
    ):
        assert path in body["paths"]


def test_docs__load_nothing_from_elsewhere(client):
    page = client.get("/docs").content.decode()
    assert "http://" not in page
    assert "https://" not in page
