"""Two web processes on one database, without any Redis: what one learns, the other knows."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import jwt
import pytest

from engine.access import keyring, machines, snapshot
from engine.models import SigningKey

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]
#: The promise, and what a loaded machine needs to ask and answer.
PROMISED_SECONDS, MARGIN_SECONDS = 1.0, 1.0


def minted(**more) -> str:
    given = {"subject": "robot", "scopes": ["runs.read"], "ttl_seconds": 600, "by": "test"}
    return machines.mint(**given | more, now=datetime.now(UTC))


def kid_of(token: str) -> str:
    return jwt.get_unverified_header(token)["kid"]


def at_once(*acts):
    """Do these at the same moment, each in a thread; return what they return."""
    start, found = threading.Barrier(len(acts)), [None] * len(acts)

    def body(number):
        start.wait()
        found[number] = acts[number]()

    threads = [threading.Thread(target=body, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def delay(webs, token, code) -> float:
    """Ask every process until each answers with the code; return how long the last one took."""
    began = time.monotonic()
    for web in webs:
        while web.code(token) != code:
            assert time.monotonic() - began < 20, web.code(token)
    return time.monotonic() - began


def test_first_start__of_two_makes_one_key(webs):
    assert not SigningKey.objects.exists()
    codes = at_once(*[lambda web=web: web.code("a.b.c") for web in webs * 4])
    assert set(codes) == {"token_invalid"}
    assert SigningKey.objects.count() == 1


def test_rotation__reaches_both_within_a_second_and_logs_nobody_out(webs, ann):
    def signed_by(web) -> str:
        return kid_of(web.post("/auth/token", username="ann", password="pw").json()["access"])

    old, first = minted(), SigningKey.objects.get().kid
    assert all(web.accepts(old) for web in webs)
    assert {signed_by(web) for web in webs} == {first}

    kid = keyring.rotate()
    began = time.monotonic()
    snapshot.forget()
    new = minted()
    assert kid_of(new) == kid != first
    # Whoever has not heard of the key asks before refusing: no request in between is lost.
    assert all(web.accepts(new) for web in webs)
    assert all(web.accepts(old) for web in webs)
    took = time.monotonic() - began
    assert {signed_by(web) for web in webs} == {kid}
    print(f"\nrotation: both accept the new key after {took:.3f} s")


def test_leak__old_keys_verify_nothing_within_a_second(webs, commands):
    old = commands("mint_jwt", "--scopes", "runs.read")
    assert all(web.accepts(old) for web in webs)
    assert "stay good" in commands("rotate_jwt_secret")
    assert all(web.accepts(old) for web in webs)
    keyring.rotate(drop_old=True)
    took = delay(webs, old, "token_key_unknown")
    print(f"\nleak: both refuse the old keys after {took:.3f} s")
    assert took < PROMISED_SECONDS + MARGIN_SECONDS


def test_new_key__is_accepted_by_a_process_that_has_just_asked(webs):
    assert all(web.accepts(minted()) for web in webs)
    for _ in range(20):
        keyring.rotate()
        snapshot.forget()
        token = minted()
        assert all(web.accepts(token) for web in webs)
