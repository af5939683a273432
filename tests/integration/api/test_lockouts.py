"""Failed sign-ins lock: by account and by address, exactly, and for a bounded time."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.db.models import F
from django.test import Client

from engine.access import grants, lockouts, people
from engine.models import Lockout
from tests.integration.faces import ApiClient

pytestmark = pytest.mark.django_db

FREE = lockouts.RULES["account"].free
ADDRESS_FREE = lockouts.RULES["address"].free
HERE, THERE = "192.0.2.1", "198.51.100.1"


@pytest.fixture
def ann():
    return User.objects.create_superuser("ann", "", "pw")


def by_api(password, name="ann", address=HERE):
    client = ApiClient()
    client.bearer = ""
    given = json.dumps({"username": name, "password": password})
    return client.post("/auth/token", given, content_type="application/json", REMOTE_ADDR=address)


def by_admin(password, name="ann", address=HERE):
    given = {"username": name, "password": password, "next": "/admin/"}
    return Client().post("/admin/login/", given, REMOTE_ADDR=address)


def later(seconds):
    """Let so much time have passed."""
    passed = timedelta(seconds=seconds)
    Lockout.objects.update(
        last_failed_at=F("last_failed_at") - passed,
        locked_until=F("locked_until") - passed,
        succeeded_at=F("succeeded_at") - passed,
        kept_until=F("kept_until") - passed,
    )


def fail(times, **where):
    for _ in range(times):
        assert by_api("wrong", **where).status_code == 401


def test_account__is_locked_for_twice_as_long_each_time_and_never_longer_than_its_limit(ann):
    fail(FREE)
    waits = []
    for _ in range(9):
        refused = by_api("pw")
        assert refused.status_code == 429, "the right password is not looked at"
        waits.append(int(refused["Retry-After"]))
        later(waits[-1])
        assert by_api("wrong").status_code == 401
    longest = lockouts.RULES["account"].longest_seconds
    assert waits == [min(15 * 2**n, longest) for n in range(9)]


def test_locked__says_so_in_one_way_only(ann):
    fail(FREE)
    refused = by_api("pw")
    assert refused["Content-Type"] == "application/problem+json"
    body = refused.json()
    assert body["code"] == "sign_in_locked"
    assert body["detail"] == "Too many failed sign-ins. Try again in 15 seconds."
    fail(FREE, name="nobody")
    unknown = by_api("pw", name="nobody")
    assert unknown.status_code == 429
    assert unknown.json()["detail"] == body["detail"]
    wrong, missing = by_api("wrong", address=THERE, name="b"), by_api("x", address=THERE, name="c")
    assert [wrong.json()[k] for k in ("status", "code", "detail")] == [
        missing.json()[k] for k in ("status", "code", "detail")
    ]


def test_unknown_account__costs_as_many_statements_and_hashes_as_a_known_one(ann, monkeypatch):
    hashed = []
    encode = hashers.MD5PasswordHasher.encode
    monkeypatch.setattr(
        hashers.MD5PasswordHasher,
        "encode",
        lambda self, password, salt: hashed.append(password) or encode(self, password, salt),
    )
    statements = []
    rows, count = lockouts.sql.rows, lockouts.sql.count
    monkeypatch.setattr(lockouts.sql, "rows", lambda *a: statements.append(a[0]) or rows(*a))
    monkeypatch.setattr(lockouts.sql, "count", lambda *a: statements.append(a[0]) or count(*a))
    found = []
    for name in ("ann", "nobody"):
        statements.clear()
        hashed.clear()
        by_api("wrong", name=name)
        found.append((list(statements), list(hashed)))
    assert found[0] == found[1]
    assert found[0][1] == ["wrong"], "one hash, also of a name that is nobody's"


def test_name__that_is_nobodys_is_not_kept(ann):
    """People type passwords where their name belongs."""
    by_api("x", name="my-very-secret-password")
    by_api("x")
    kept = json.dumps(list(Lockout.objects.values("key", "account", "address")))
    assert "secret" not in kept
    assert '"account": "ann"' in kept


def test_api_and_admin__count_together(ann):
    fail(FREE - 1)
    assert b"enter the correct" in by_admin("wrong").content
    assert by_api("pw").status_code == 429
    refused = by_admin("pw")
    assert refused.status_code == 429
    assert refused["Retry-After"] == "15"
    assert b"Too many failed sign-ins. Try again in 15 seconds." in refused.content


def test_admin__takes_somebody_who_may_not_enter_for_a_failure():
    User.objects.create_user("clerk", "", "pw")
    by_admin("pw", name="clerk")
    assert Lockout.objects.get(kind="account").failures == 1


def test_sign_in__that_is_right_forgets_the_failures_of_its_account(ann):
    fail(FREE - 1)
    assert by_api("pw").status_code == 200
    fail(FREE - 1)
    assert by_api("pw").status_code == 200


def test_sign_in__that_is_right_takes_back_only_its_own_try_of_the_address(ann):
    fail(3, name="nobody")
    assert by_api("pw").status_code == 200
    assert Lockout.objects.get(kind="address").failures == 3


def test_account__where_it_is_known_cannot_be_locked_out_from_elsewhere(ann):
    assert by_api("pw", address=HERE).status_code == 200
    fail(FREE, address=THERE)
    assert by_api("pw", address=THERE).status_code == 429
    assert by_api("pw", address=HERE).status_code == 200
    assert by_api("pw", address=THERE).status_code == 429, "known there, not everywhere"


def test_account__where_it_is_known_is_still_guarded(ann):
    assert by_api("pw").status_code == 200
    fail(FREE - 1)
    assert by_api("pw").status_code == 200
    fail(FREE - 1)
    assert by_api("pw").status_code == 200
    fail(FREE)
    assert by_api("pw").status_code == 429


def test_account__is_known_for_thirty_days(ann):
    assert by_api("pw", address=HERE).status_code == 200
    later(lockouts.KNOWN_SECONDS + 1)
    fail(FREE, address=THERE)
    assert by_api("pw", address=HERE).status_code == 429


def test_address__is_locked_whoever_is_tried_but_not_for_those_known_there(ann):
    assert by_api("pw").status_code == 200
    for number in range(ADDRESS_FREE):
        fail(1, name=f"nobody-{number}")
    User.objects.create_user("new", "", "pw")
    assert by_api("pw", name="new").status_code == 429
    assert by_api("pw", name="ann").status_code == 200
    assert by_api("pw", name="new", address=THERE).status_code == 200


def test_address__is_never_locked_for_longer_than_five_minutes(ann):
    for number in range(ADDRESS_FREE + 12):
        answered = by_api("x", name=f"nobody-{number}")
        if answered.status_code == 429:
            later(int(answered["Retry-After"]))
    wait = int(by_api("pw", name="somebody")["Retry-After"])
    assert wait <= 300


def test_address__of_ipv6_is_the_whole_network(ann):
    for number in range(ADDRESS_FREE):
        fail(1, name=f"nobody-{number}", address=f"2001:db8::{number + 1:x}")
    assert by_api("pw", address="2001:db8::ffff").status_code == 429
    assert by_api("pw", address="2001:db8:0:1::1").status_code == 200


def test_address__that_nobody_knows_locks_nobody_but_the_account(ann):
    fail(FREE, address="")
    assert by_api("pw", address="").status_code == 429
    assert list(Lockout.objects.values_list("kind", flat=True)) == ["account"]


def test_failures__are_forgotten_after_a_day(ann):
    fail(FREE - 1)
    later(lockouts.RULES["account"].forgotten_seconds + 1)
    fail(FREE - 1)
    assert by_api("pw").status_code == 200


def test_rows__that_nothing_depends_on_go_with_the_next_try(ann):
    fail(3, name="nobody")
    later(10 * 86_400)
    by_api("x", address=THERE)
    assert set(Lockout.objects.values_list("account", "address")) == {("ann", ""), ("", THERE)}


@pytest.mark.django_db(transaction=True)
def test_tries__at_once_are_looked_at_no_more_often_than_in_a_row(ann, monkeypatch):
    looked_at = []
    lock = threading.Lock()

    def look(_request, *, username, password):
        with lock:
            looked_at.append(password)

    monkeypatch.setattr(people, "authenticate", look)

    def guess(number):
        try:
            return by_api(f"guess-{number}", address=f"192.0.2.{number % 8}").status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as threads:
        codes = list(threads.map(guess, range(48)))
    assert len(looked_at) == FREE
    assert sorted(set(codes)) == [401, 429]
    assert codes.count(401) == FREE


def run(*words):
    call_command("lockouts", *words)


def test_command__lists_and_clears(ann, capsys):
    fail(FREE)
    run("list", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert {(row["kind"], row["account"], row["failures"]) for row in listed} == {
        ("account", "ann", FREE),
        ("address", "", FREE),
    }
    run("list", "--locked")
    out = capsys.readouterr().out
    assert "ann" in out
    assert HERE not in out
    with pytest.raises(CommandError, match="--account"):
        run("clear")
    run("clear", "--account", "ann")
    assert "Cleared: 1" in capsys.readouterr().out
    assert by_api("pw").status_code == 200
    assert Lockout.objects.get(kind="address").failures == FREE
    run("clear", "--address", HERE)
    assert Lockout.objects.get(kind="address").failures == 0


def test_admin_page__lists_and_clears_for_those_who_may(ann, client):
    fail(FREE)
    fail(1, name="nobody")
    client.force_login(ann)
    address = "/admin/engine/lockout/"
    page = client.get(address).content.decode()
    assert "locked" in page
    assert "unknown name" in page
    ids = list(Lockout.objects.filter(kind="account").values_list("pk", flat=True))
    form = {"action": "clear_selected", "_selected_action": ids}
    assert client.post(address, form).status_code == 302
    assert by_api("pw").status_code == 200

    fail(FREE - 1, name="nobody")
    onlooker = User.objects.create_user("onlooker", "", "pw", is_staff=True)
    grants.grant(user=onlooker, role="operator", by="root")
    client.force_login(onlooker)
    assert client.get(address).status_code == 403
    assert client.post(address, form).status_code == 403
    assert Lockout.objects.filter(kind="account", failures=FREE - 1).exists()
