"""What answers say of how they may be used, whatever made them."""

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.test import Client

from config import response_headers
from engine import artifacts
from engine.models import Artifact
from tests.integration.faces import ApiClient

pytestmark = pytest.mark.django_db

FRIEND = "https://app.example.org"


def policy(response):
    parts = response["Content-Security-Policy"].split("; ")
    return {part.partition(" ")[0]: part.partition(" ")[2] for part in parts}


@pytest.mark.parametrize(
    "path",
    [
        "/runs",
        "/auth/me",
        "/nothing/here",
        "/livez",
        "/openapi.json",
        "/docs",
        "/admin/login/",
        "/",
    ],
)
def test_every_answer__carries_every_field(client, path):
    answered = client.get(path)
    for name in [*response_headers.FIELDS, "Content-Security-Policy"]:
        assert name in answered, name
    assert answered["X-Content-Type-Options"] == "nosniff"
    assert answered["X-Frame-Options"] == "DENY"
    assert answered["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in answered["Permissions-Policy"]
    assert policy(answered)["frame-ancestors"] == "'none'"
    assert policy(answered)["default-src"] == "'none'"
    assert "no-store" in answered["Cache-Control"]


@pytest.mark.parametrize("path", ["/runs", "/nothing", "/livez", "/openapi.json", "/docs/more"])
def test_api__may_load_and_do_nothing(client, path):
    assert policy(client.get(path)) == {
        "default-src": "'none'",
        "frame-ancestors": "'none'",
        "sandbox": "",
    }


def test_docs__take_scripts_and_styles_as_files_only(client):
    answered = client.get("/docs")
    said = policy(answered)
    assert (said["script-src"], said["style-src"]) == ("'self'", "'self'")
    assert "unsafe" not in answered["Content-Security-Policy"]
    page = answered.content.decode()
    assert "<style" not in page
    assert page.count("<script") == page.count("<script src=") == 3


def test_admin__takes_what_its_theme_needs_and_no_script_in_a_page(client):
    said = policy(client.get("/admin/login/"))
    assert said["script-src"] == "'self' 'unsafe-eval'"
    assert said["style-src"] == "'self' 'unsafe-inline'"
    rest = {name: words for name, words in said.items() if name not in {"script-src", "style-src"}}
    assert "unsafe" not in " ".join(rest.values())


def test_static_file__may_be_kept(client):
    answered = client.get("/static/config/docs.css")
    assert b"box-sizing" in b"".join(answered.streaming_content)
    assert answered.status_code == 200
    assert "max-age" in answered["Cache-Control"]
    assert answered["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("face", ["api", "admin"])
def test_file__is_saved_and_never_shown(api, client, face):
    client.force_login(User.objects.create_superuser("operator", "", "pw"))
    content = b"<script>alert(1)</script>"
    artifacts.store(name="r\u00e4port.html", content=content, media_type="text/html")
    row = Artifact.objects.get()
    address = {"api": f"/artifacts/{row.pk}", "admin": f"/admin/engine/artifact/{row.pk}/download"}
    answered = (api if face == "api" else client).get(address[face])
    assert b"".join(answered.streaming_content) == content
    assert answered["Content-Disposition"].startswith("attachment; ")
    assert answered["X-Content-Type-Options"] == "nosniff"
    assert policy(answered) == {
        "sandbox": "",
        "default-src": "'none'",
        "frame-ancestors": "'none'",
    }


def preflight(client, path="/runs", origin=FRIEND, header="authorization, idempotency-key"):
    return client.options(
        path,
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": header,
        },
    )


def test_cors__is_for_nobody_who_is_not_named(client):
    assert configured.CORS_ALLOWED_ORIGINS == []
    for answered in (preflight(client), ApiClient().get("/runs", headers={"origin": FRIEND})):
        assert not [name for name in answered.headers if name.startswith("Access-Control-")]


def test_cors__lets_a_named_origin_call_and_read_what_it_needs(client, settings):
    settings.CORS_ALLOWED_ORIGINS = [FRIEND]
    asked = preflight(client)
    assert asked.status_code == 200
    assert asked["Access-Control-Allow-Origin"] == FRIEND
    assert "idempotency-key" in asked["Access-Control-Allow-Headers"]
    assert "POST" in asked["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in asked
    answered = ApiClient().get("/runs", headers={"origin": FRIEND})
    exposed = answered["Access-Control-Expose-Headers"]
    for name in ("Location", "RateLimit", "Idempotent-Replayed", "X-Request-ID", "Retry-After"):
        assert name in exposed
    refused = client.get("/runs", headers={"origin": FRIEND})
    assert refused.status_code == 401
    assert refused["Access-Control-Allow-Origin"] == FRIEND, "a page can read what was wrong"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.org.evil.example",
        "http://app.example.org",
        "null",
    ],
)
def test_cors__takes_no_origin_that_only_looks_like_it(client, settings, origin):
    settings.CORS_ALLOWED_ORIGINS = [FRIEND]
    assert "Access-Control-Allow-Origin" not in preflight(client, origin=origin)


def test_cors__never_opens_the_admin(settings):
    settings.CORS_ALLOWED_ORIGINS = [FRIEND]
    answered = Client().get("/admin/login/", headers={"origin": FRIEND})
    assert "Access-Control-Allow-Origin" not in answered
