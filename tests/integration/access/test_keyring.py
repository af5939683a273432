"""The keys that sign tokens: one first, rotation without a logout, an end for spent ones."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test import Client

from engine.access import bearers, keyring, machines, sealing, snapshot, tokens
from engine.models import MachineToken, SigningKey
from tests.integration.faces import ApiClient, token

pytestmark = pytest.mark.django_db


def minted(subject="robot", ttl_seconds=60, **more):
    given = {"subject": subject, "scopes": ["runs.read"], "ttl_seconds": ttl_seconds, "by": "test"}
    return machines.mint(**given, now=datetime.now(UTC), **more)


def kid_of(found: str) -> str:
    return jwt.get_unverified_header(found)["kid"]


def code(bearer: str) -> str:
    answer = Client().get("/auth/me", headers={"Authorization": f"Bearer {bearer}"})
    assert answer.status_code in {200, 401}
    return "" if answer.status_code == 200 else answer.json()["code"]


def rotated(**options) -> str:
    kid = keyring.rotate(by="test", **options)
    snapshot.forget()
    return kid


def later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def test_token__names_its_key_and_the_given_secret_signs_first():
    found = minted()
    row = SigningKey.objects.get()
    assert (row.kid, row.signs, row.is_given) == (kid_of(found), True, True)
    jwt.decode(found, settings.JWT_SECRET, algorithms=["HS256"], audience=tokens.AUDIENCE)


def test_key__is_sealed_and_nothing_says_it(caplog):
    minted()
    keyring.rotate(by="test")
    stored = json.dumps(list(SigningKey.objects.values()), default=str)
    assert settings.JWT_SECRET not in stored
    row = SigningKey.objects.get(is_given=True)
    assert sealing.unseal(row.sealed, key=settings.MASTER_KEY) == settings.JWT_SECRET
    known = snapshot.current().keys
    assert settings.JWT_SECRET not in f"{known!r}{vars(row)}{caplog.text}"


def test_first_key__is_made_without_a_given_secret(without_jwt_secret):
    found = minted()
    assert bearers.verified(found).subject == "robot"
    row = SigningKey.objects.get()
    assert (row.signs, row.is_given) == (True, False)


def test_rotation__signs_anew_and_logs_nobody_out():
    old = minted()
    kid = rotated()
    new = minted()
    assert kid_of(new) == kid != kid_of(old)
    assert (code(old), code(new)) == ("", "")
    assert SigningKey.objects.get(signs=True).kid == kid


def test_rotation__before_anything_was_signed_keeps_the_tokens_of_the_given_secret():
    call_command("rotate_jwt_secret")
    assert code(token("runs.read")) == ""


def test_rotation__after_a_leak_voids_the_old_keys_for_good():
    old, foreign = minted(), token("runs.read")
    rotated(drop_old=True)
    assert [code(old), code(foreign)] == ["token_key_unknown"] * 2
    assert SigningKey.objects.get(is_given=True).sealed == ""
    snapshot.forget()
    assert code(foreign) == "token_key_unknown", "JWT_SECRET is not taken on again"
    assert code(minted()) == ""


def test_given_secret__that_changes_is_taken_on_like_a_rotation(settings):
    old = minted()
    settings.JWT_SECRET = "another-jwt-key-that-only-this-test-uses-0123456"
    snapshot.forget()
    new = minted()
    # A process does not notice a change of its own settings; another one has them from its start.
    assert kid_of(new) != kid_of(old)
    assert (code(old), code(new)) == ("", "")
    assert list(SigningKey.objects.order_by("id").values_list("signs", flat=True)) == [False, True]


def test_token_without_kid__is_of_the_given_secret_as_long_as_that_is_there():
    said = jwt.decode(token("runs.read"), options={"verify_signature": False})
    unnamed = jwt.encode(said, settings.JWT_SECRET, algorithm="HS256")
    assert code(unnamed) == ""
    rotated()
    assert code(unnamed) == ""
    rotated(drop_old=True)
    assert code(unnamed) == "token_key_unknown"


@pytest.mark.parametrize("kid", ["0123456789abcdef", "", "x" * 4000, "../../dev/null"])
def test_unknown_kid__is_401_with_its_code(kid):
    said = jwt.decode(token("runs.read"), options={"verify_signature": False})
    forged = jwt.encode(said, settings.JWT_SECRET, algorithm="HS256", headers={"kid": kid})
    assert code(forged) == "token_key_unknown"


@pytest.mark.parametrize("algorithm", ["none", "HS384", "HS512"])
def test_other_algorithm__is_refused(algorithm):
    minted()
    said = jwt.decode(token("runs.read"), options={"verify_signature": False})
    headers = {"kid": SigningKey.objects.get().kid}
    key = "" if algorithm == "none" else settings.JWT_SECRET * 2
    assert code(jwt.encode(said, key, algorithm=algorithm, headers=headers)) == "token_invalid"


def test_spent_key__is_dropped_when_its_last_token_has_expired(without_jwt_secret):
    long = minted(ttl_seconds=40 * 86400)
    rotated()
    assert keyring.drop_expired(now=later(0)) == 0, "tokens of people may be on their way"
    assert keyring.drop_expired(now=later(39)) == 0, "a machine's token is still good"
    assert keyring.drop_expired(now=later(41)) == 1
    assert keyring.drop_expired(now=later(41)) == 0
    snapshot.forget()
    assert code(long) == "token_key_unknown"
    assert code(minted()) == ""


def test_spent_key__of_a_revoked_token_need_not_stay(without_jwt_secret):
    minted(ttl_seconds=40 * 86400)
    rotated()
    MachineToken.objects.update(revoked_at=datetime.now(UTC))
    assert keyring.drop_expired(now=later(1)) == 1


def test_other_master_key__is_503_and_says_no_more(settings, caplog):
    minted()
    settings.MASTER_KEY = "quite-another-master-key-than-before-0123456789"
    snapshot.forget()
    answer = ApiClient().get("/auth/me")
    assert (answer.status_code, answer.json()["code"]) == (503, "secret_unreadable")
    rotated()
    assert code(minted()) == "", "a rotation needs no old key"


def test_master_key__is_changed_by_putting_a_new_one_in_front(settings):
    old = minted()
    settings.MASTER_KEY = f"quite-another-master-key-than-before-0123456789,{settings.MASTER_KEY}"
    snapshot.forget()
    assert code(old) == ""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("secret", ["", "a-given-secret-that-only-this-test-uses-01234567"])
def test_first_start__of_many_makes_one_key(settings, secret):
    settings.JWT_SECRET = secret
    start, found = threading.Barrier(8), []

    def first() -> None:
        start.wait()
        try:
            found.append(keyring.load().signing)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {SigningKey.objects.get().kid}
