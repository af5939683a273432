"""Two web processes on one database, without any Redis: what one learns, the other knows."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import jwt
import pytest
from django.contrib.auth.models import User

from engine.access import keyring, machines, revocations, snapshot
from engine.models import MachineToken, SignIn, SigningKey

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

    kid = keyring.rotate(by="test")
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
    keyring.rotate(by="test", drop_old=True)
    took = delay(webs, old, "token_key_unknown")
    print(f"\nleak: both refuse the old keys after {took:.3f} s")
    assert took < PROMISED_SECONDS + MARGIN_SECONDS


def test_new_key__is_accepted_by_a_process_that_has_just_asked(webs):
    assert all(web.accepts(minted()) for web in webs)
    for _ in range(20):
        keyring.rotate(by="test")
        snapshot.forget()
        token = minted()
        assert all(web.accepts(token) for web in webs)


def test_revocation__reaches_both_within_a_second(webs):
    delays = []
    for way in range(6):
        token = minted(subject=f"robot{way}")
        assert all(web.accepts(token) for web in webs)
        if way % 3 == 0:
            revocations.revoke_token(MachineToken.objects.latest("id").jti, by="test")
        elif way % 3 == 1:
            revocations.revoke_subject(f"robot{way}", by="test")
        else:
            assert webs[0].post("/auth/revoke", token=token).json() == {"tokens": 1, "sign_ins": 0}
        delays.append(delay(webs, token, "token_revoked"))
        assert delays[-1] < PROMISED_SECONDS + MARGIN_SECONDS
    print(
        f"\nrevocation, without Redis: both refuse after {max(delays):.3f} s at most, of {delays}"
    )


def test_revocation__by_command_and_of_idle_processes(webs, commands):
    token = commands("mint_jwt", "--scopes", "runs.read", "--subject", "nightly")
    commands("revoke_token", "--subject", "nightly")
    assert [web.code(token) for web in webs] == ["token_revoked"] * 2


def signed_in(web) -> dict[str, str]:
    return web.post("/auth/token", username="ann", password="pw").json()


@pytest.mark.parametrize("change", ["password", "deactivation"])
def test_user__that_changes_is_out_of_both_within_a_second(webs, ann, change):
    pair = signed_in(webs[0])
    assert all(web.accepts(pair["access"]) for web in webs)
    if change == "password":
        ann.set_password("other")
        ann.save()
    else:
        User.objects.update(is_active=False)
    took = delay(webs, pair["access"], "token_revoked")
    assert took < PROMISED_SECONDS + MARGIN_SECONDS
    print(f"\n{change}: both refuse after {took:.3f} s")
    for web in webs:
        assert web.post("/auth/refresh", refresh=pair["refresh"]).status_code == 401


def test_refresh__at_two_processes_at_once_has_one_winner(webs, ann):
    pair = signed_in(webs[0])
    won = 0
    for _ in range(10):
        acts = [
            lambda web=web, refresh=pair["refresh"]: web.post("/auth/refresh", refresh=refresh)
            for web in webs
        ]
        answers = at_once(*acts)
        assert sorted(answer.status_code for answer in answers) == [200, 401]
        (winner,) = [answer for answer in answers if answer.status_code == 200]
        (loser,) = [answer for answer in answers if answer.status_code == 401]
        won += loser.json()["code"] == "token_used"
        # One that came in after the other was done is a reuse, and ends the sign-in.
        pair = (
            winner.json()
            if SignIn.objects.latest("created_at").revoked_at is None
            else (signed_in(webs[0]))
        )
    print(f"\nrefresh: {won} of 10 were under way at the same time")
    assert won


def test_reuse__at_another_process_ends_the_sign_in_in_both(webs, ann):
    one, other = webs
    first = signed_in(one)
    second = one.post("/auth/refresh", refresh=first["refresh"]).json()
    assert all(web.accepts(second["access"]) for web in webs)
    assert other.post("/auth/refresh", refresh=first["refresh"]).json()["code"] == "token_revoked"
    took = delay(webs, second["access"], "token_revoked")
    assert took < PROMISED_SECONDS + MARGIN_SECONDS
    assert one.post("/auth/refresh", refresh=second["refresh"]).status_code == 401
