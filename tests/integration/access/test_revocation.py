"""Tokens that are refused before they expire."""

from __future__ import annotations

import io
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.utils import OperationalError
from django.test import Client
from django.test.utils import CaptureQueriesContext

from engine.access import housekeeping, keyring, machines, revocations, snapshot, tokens, versions
from engine.models import AuditRecord, MachineToken, Revocation, SignIn, SigningKey
from tests.integration.faces import ApiClient, token

pytestmark = pytest.mark.django_db

JSON = "application/json"


def minted(subject="robot", ttl_seconds=60):
    return machines.mint(
        subject=subject,
        scopes=["runs.read"],
        ttl_seconds=ttl_seconds,
        now=datetime.now(UTC),
        by="test",
    )


def code(bearer: str) -> str:
    answer = Client().get("/auth/me", headers={"Authorization": f"Bearer {bearer}"})
    assert answer.status_code in {200, 401}
    return "" if answer.status_code == 200 else answer.json()["code"]


def said(*words: str) -> str:
    output = io.StringIO()
    call_command(*words, stdout=output)
    snapshot.forget()
    return output.getvalue()


def posted(bearer: str = "", **body):
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    found = Client().post(
        "/auth/revoke", data=body, content_type="application/json", headers=headers
    )
    snapshot.forget()
    return found


def jti_of(subject: str) -> str:
    return MachineToken.objects.get(subject=subject).jti


def test_command__ends_a_token_by_itself_by_id_and_by_subject(monkeypatch):
    by_itself, by_pipe, by_id, by_subject, other = (
        minted(name) for name in ("itself", "pipe", "id", "subject", "other")
    )
    assert said("revoke_token", by_itself) == "Revoked: 1 token.\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{by_pipe}\n"))
    assert said("revoke_token", "-") == "Revoked: 1 token.\n"
    assert said("revoke_token", "--jti", jti_of("id")) == "Revoked: 1 token.\n"
    assert said("revoke_token", "--subject", "subject") == "Revoked: 1 token.\n"
    for bearer in (by_itself, by_pipe, by_id, by_subject):
        assert code(bearer) == "token_revoked"
    assert code(other) == ""
    assert MachineToken.objects.filter(revoked_by__startswith="command:").count() == 4
    assert MachineToken.objects.get(revoked_at=None).subject == "other"


def test_command__says_when_there_is_nothing_to_do():
    found = minted()
    said("revoke_token", found)
    with pytest.raises(CommandError, match="Nothing to do"):
        said("revoke_token", found)
    with pytest.raises(CommandError, match="not valid here"):
        said("revoke_token", found[:-5] + "AAAAA")
    assert "refused all the same" in said("revoke_token", "--jti", "0" * 32)


def test_subject__is_good_again_for_what_is_minted_later():
    old = minted()
    said("revoke_token", "--subject", "robot")
    new = minted()
    assert (code(old), code(new)) == ("token_revoked", "")
    said("revoke_token", "--subject", "robot")
    assert code(new) == "token_revoked"


def test_token__that_nobody_wrote_down_is_revoked_too():
    foreign = token("runs.read", subject="elsewhere")
    assert code(foreign) == ""
    assert said("revoke_token", foreign) == "Revoked.\n"
    assert code(foreign) == "token_revoked"
    second = token("runs.read", subject="elsewhere")
    said("revoke_token", "--subject", "elsewhere")
    assert code(second) == "token_revoked"


def test_endpoint__takes_the_token_itself_from_whoever_has_it():
    found = minted()
    answer = posted(token=found)
    assert (answer.status_code, answer.json()) == (200, {"tokens": 1, "sign_ins": 0})
    assert code(found) == "token_revoked"
    assert posted(token=found).json() == {"tokens": 0, "sign_ins": 0}
    assert MachineToken.objects.get().revoked_by == "robot"


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_endpoint__signs_a_user_out_with_either_token(kind):
    User.objects.create_superuser("ann", "", "pw")
    client = ApiClient()
    pair = client.send("/auth/token", {"username": "ann", "password": "pw"}).json()
    assert posted(token=pair[kind]).json() == {"tokens": 0, "sign_ins": 1}
    assert code(pair["access"]) == "token_revoked"
    refused = client.send("/auth/refresh", {"refresh": pair["refresh"]})
    assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")


def test_endpoint__by_name_needs_admin():
    found = minted()
    body = {"jti": jti_of("robot")}
    assert posted(**body).status_code == 401
    refused = posted(token("runs.*", "departments.*"), **body)
    assert (refused.status_code, refused.json()["scope"]) == (403, "admin.*")
    assert posted(token("lab:admin.*"), **body).status_code == 403
    assert code(found) == ""
    assert posted(token("admin.*"), **body).json() == {"tokens": 1, "sign_ins": 0}
    assert code(found) == "token_revoked"
    other = minted("other")
    assert posted(token("admin.*"), subject="other").status_code == 200
    assert code(other) == "token_revoked"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"jti": "a", "subject": "b"},
        {"token": "x" * 4097},
        {"jti": ""},
        {"subject": "x" * 151},
        {"subject": None},
        {"more": 1},
    ],
)
def test_endpoint__refuses_what_is_malformed(body):
    answer = posted(token("admin.*"), **body)
    assert (answer.status_code, answer.json()["code"]) == (400, "request_invalid")
    assert answer.json()["errors"]
    assert not Revocation.objects.exists()


def test_endpoint__does_not_call_half_a_token_revoked():
    answer = posted(token=minted()[:-4])
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert not Revocation.objects.exists()


def test_admin__lists_tokens_and_revokes_the_selected(client):
    client.force_login(User.objects.create_superuser("root", "", "pw"))
    found, other = minted("chosen"), minted("spared")
    shown = client.get("/admin/engine/machinetoken/").content.decode()
    assert "chosen" in shown
    assert found.rpartition(".")[2] not in shown
    row = MachineToken.objects.get(subject="chosen")
    page = client.get(f"/admin/engine/machinetoken/{row.pk}/change/").content.decode()
    assert 'name="_save"' not in page
    done = {"action": "revoke_selected", "_selected_action": [str(row.pk)]}
    client.post("/admin/engine/machinetoken/", done)
    snapshot.forget()
    assert (code(found), code(other)) == ("token_revoked", "")
    row.refresh_from_db()
    assert row.revoked_by == "root"
    assert client.get("/admin/engine/machinetoken/add/").status_code == 403


def test_admin__shows_no_keys(client):
    client.force_login(User.objects.create_superuser("root", "", "pw"))
    minted()
    sealed = SigningKey.objects.get().sealed
    for page in ("/admin/", "/admin/engine/machinetoken/"):
        assert sealed not in client.get(page).content.decode()
    assert client.get("/admin/engine/signingkey/").status_code == 404


def test_snapshot__reads_only_what_is_new():
    for number in range(3):
        revocations.revoke_token(f"{number}", by="test")
    known = snapshot.current().revocations
    revocations.revoke_token("3", by="test")
    with CaptureQueriesContext(connection):
        following = known.brought_up(versions.current())
    assert set(following.token) == {"0", "1", "2", "3"}
    Revocation.objects.filter(value="0").delete()
    assert "0" in following.brought_up(versions.current()).token, "it was not read again"


def test_snapshot__forgets_what_has_expired():
    soon = datetime.now(UTC) + timedelta(seconds=1000)
    revocations.revoke_token("short", by="test", expires_at=soon)
    known = snapshot.current().revocations
    assert "short" in known.token
    expired = {"short": (known.token["short"][0], int(time.time()) - 1)}
    later = snapshot.Revocations(known.version, token=expired)
    revocations.revoke_token("long", by="test")
    assert set(later.brought_up(versions.current()).token) == {"long"}


def test_database__that_is_away_leaves_what_was_known_for_some_seconds(monkeypatch):
    found = minted()
    assert code(found) == ""

    def away():
        raise OperationalError("away")

    monkeypatch.setattr(versions, "current", away)
    aged(1.0)
    assert code(found) == ""
    aged(snapshot.STALE_SECONDS + 0.1)
    answer = Client().get("/auth/me", headers={"Authorization": f"Bearer {found}"})
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer["Retry-After"]


def test_snapshot__that_is_being_asked_for_is_waited_for_only_when_it_is_old():
    found = snapshot.current()
    with snapshot._Process.lock:  # another thread asks
        aged(snapshot.FRESH_SECONDS + 0.1)
        assert snapshot.current() is found
        aged(snapshot.STALE_SECONDS + 0.1)
        snapshot_seconds, snapshot.STALE_SECONDS = snapshot.STALE_SECONDS, 0.05
        try:
            with pytest.raises(OperationalError):
                snapshot.current()
        finally:
            snapshot.STALE_SECONDS = snapshot_seconds


def aged(seconds: float) -> None:
    known, _ = snapshot._Process.known
    snapshot._Process.known = (known, time.monotonic() - seconds)


def test_sweep__forgets_what_has_expired_and_keeps_the_rest():
    now = datetime.now(UTC)
    minted()
    minted("old")
    MachineToken.objects.filter(subject="old").update(expires_at=now - timedelta(days=91))
    revocations.revoke_token("a", by="test", expires_at=now - timedelta(seconds=1))
    revocations.revoke_token("b", by="test")
    assert housekeeping.sweep(now=now, limit=1)
    assert not housekeeping.sweep(now=now, limit=1)
    assert [row.value for row in Revocation.objects.all()] == ["b"]
    assert [row.subject for row in MachineToken.objects.all()] == ["robot"]
    assert not SignIn.objects.exists()


def test_listing__shows_what_was_revoked():
    minted()
    said("revoke_token", "--subject", "robot")
    assert json.loads(said("tokens", "list", "--json")) == []
    (row,) = json.loads(said("tokens", "list", "--all", "--json"))
    assert (row["standing"], row["revoked_at"] is not None) == ("revoked", True)


def test_claims__of_another_holder_of_the_key_cannot_pass_as_registered():
    claims = tokens.Claims(subject="x", scopes=(), kind="access", id="", version=2**63 - 1)
    assert not snapshot.Revocations().cover(claims)


def by_another_holder(**claims):
    """Return a token as whoever holds JWT_SECRET may make it, with claims that ours never have."""
    kid = keyring._kid_of(settings.JWT_SECRET)
    keys = tokens.Keyring(signing=kid, secrets={kid: settings.JWT_SECRET})
    soon = int(datetime.now(UTC).timestamp()) + 60
    common = {"sub": "other", "scopes": ["runs.read"], "token_type": "access", "exp": soon}
    return keys.encode(common | claims)


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_revoke__of_a_sign_in_that_is_no_uuid_ends_it(kind):
    mine, same = by_another_holder(sid="s-1", token_type=kind), by_another_holder(sid="s-1")
    other = by_another_holder(sid="s-2")
    answered = posted(token=mine)
    assert (answered.status_code, answered.json()) == (200, {"tokens": 0, "sign_ins": 0})
    assert (code(same), code(other)) == ("token_revoked", "")


def test_revoke__of_a_token_without_an_id_takes_no_others_with_it():
    mine, other = by_another_holder(), by_another_holder(sub="somebody else")
    answered = posted(token=mine)
    assert (answered.status_code, answered.json()["code"]) == (400, "token_without_id")
    snapshot.forget()
    assert code(other) == ""
    with pytest.raises(CommandError, match="subject"):
        said("revoke_token", mine)


def test_refresh__with_what_is_not_ours_leaves_no_record():
    for refresh in ("garbage", by_another_holder(), token("runs.read", key="k" * 32)):
        assert Client().post("/auth/refresh", {"refresh": refresh}, JSON).status_code == 401
    assert not AuditRecord.objects.filter(action="auth.refresh").exists()
    expired = by_another_holder(token_type="refresh", exp=1_700_000_000)
    assert Client().post("/auth/refresh", {"refresh": expired}, JSON).status_code == 401
    assert AuditRecord.objects.get(action="auth.refresh").outcome == "refused"
