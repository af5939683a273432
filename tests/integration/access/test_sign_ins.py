"""Sign-ins of users: refresh tokens are good once, and one that comes back ends the sign-in."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections

from engine.access import sign_ins, snapshot, tokens
from engine.models import Revocation, SignIn
from tests.integration.faces import ApiClient

pytestmark = pytest.mark.django_db


class Browser(ApiClient):
    """A client that signs in and keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.bearer = self.refresh = ""

    def sign_in(self):
        return self._keep(self.send("/auth/token", {"username": "ann", "password": "pw"}))

    def go_on(self, refresh: str | None = None):
        return self._keep(self.send("/auth/refresh", {"refresh": refresh or self.refresh}))

    def code(self) -> str:
        answer = self.get("/auth/me")
        return "" if answer.status_code == 200 else answer.json()["code"]

    def _keep(self, answer):
        if answer.status_code == 200:
            self.bearer, self.refresh = answer.json()["access"], answer.json()["refresh"]
        return answer


@pytest.fixture
def ann():
    return User.objects.create_superuser("ann", "", "pw")


@pytest.fixture
def browser(ann):
    found = Browser()
    assert found.sign_in().status_code == 200
    return found


def noticed() -> None:
    """Let this process have asked the database since."""
    snapshot.forget()


def test_refresh__gives_the_next_pair_and_says_so(browser):
    first = browser.refresh
    answer = browser.go_on()
    assert answer["Cache-Control"] == "no-store"
    assert browser.refresh != first
    assert browser.code() == ""
    assert browser.go_on().status_code == 200
    assert SignIn.objects.count() == 1


def test_reuse__ends_the_whole_sign_in_and_no_other(browser):
    stolen = browser.refresh
    other = Browser()
    other.sign_in()
    browser.go_on()
    thief = Browser()
    answer = thief.go_on(stolen)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")
    noticed()
    assert browser.code() == "token_revoked"
    assert browser.go_on().json()["code"] == "token_revoked"
    assert (other.code(), other.go_on().status_code) == ("", 200)
    assert SignIn.objects.get(revoked_at__isnull=False).revoked_by == "reuse of a refresh token"


def test_refresh__of_two_under_way_refuses_the_second_and_goes_on(browser):
    used = browser.refresh
    came_at = datetime.now(UTC)
    browser.go_on()
    with pytest.raises(sign_ins.TokenUsedError):
        sign_ins.exchange(used, came_at=came_at)
    noticed()
    assert (browser.code(), browser.go_on().status_code) == ("", 200)


@pytest.mark.django_db(transaction=True)
def test_refresh__of_many_at_once_has_one_winner(browser):
    used, start, found = browser.refresh, threading.Barrier(6), []

    def exchange() -> None:
        came_at = datetime.now(UTC)
        start.wait()
        try:
            found.append(sign_ins.exchange(used, came_at=came_at))
        except tokens.TokenInvalidError as exc:
            found.append(exc.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=exchange) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [it for it in found if isinstance(it, sign_ins.Pair)]
    assert [it for it in found if isinstance(it, str)] == ["token_used"] * 5
    noticed()
    assert browser.go_on(winner.refresh).status_code == 200


def test_access_token__is_no_refresh_token(browser):
    assert browser.go_on(browser.bearer).json()["code"] == "token_invalid"


def test_sign_in__expires_with_its_refresh_token(browser, settings):
    settings.REFRESH_TOKEN_SECONDS = -1
    assert browser.go_on().status_code == 200
    assert browser.go_on().json()["code"] == "token_invalid"


CHANGES = {
    "password": lambda: User.objects.get(username="ann").set_password("other"),
    "password by a form": lambda: User.objects.filter(username="ann").update(password="x"),
    "deactivation": lambda: User.objects.filter(username="ann").update(is_active=False),
    "new name": lambda: User.objects.filter(username="ann").update(username="anna"),
    "deletion": lambda: User.objects.get(username="ann").delete(),
    "deletion by SQL": lambda: connection.cursor().execute(
        "DELETE FROM auth_user WHERE username = 'ann'"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_user__that_changes_is_signed_out_everywhere(browser, change):
    changed = User.objects.get(username="ann")
    CHANGES[change]()
    if change == "password":
        changed.set_password("other")
        changed.save()
    noticed()
    assert browser.code() == "token_revoked"
    assert browser.go_on().json()["code"] == "token_revoked"


def test_user__with_a_new_password_signs_in_at_once(browser, ann):
    ann.set_password("pw")
    ann.save()
    again = Browser()
    again.sign_in()
    noticed()
    assert (browser.code(), again.code()) == ("token_revoked", "")


def test_user__who_is_no_superuser_any_more_gets_the_rights_of_now(browser):
    User.objects.update(is_superuser=False)
    noticed()
    assert browser.code() == "token_revoked"
    assert browser.go_on().json()["scopes"] == []
    assert browser.code() == ""


def test_user__who_only_signs_in_or_gets_an_address_stays_signed_in(browser):
    User.objects.update(last_login=datetime.now(UTC), email="ann@example.com", is_staff=False)
    noticed()
    assert browser.code() == ""
    assert not Revocation.objects.exists()


def test_sign_in__of_a_user_that_changed_meanwhile_is_refused(ann):
    ann.password = "as it was before"
    with pytest.raises(tokens.TokenInvalidError):
        sign_ins.begin(ann)
    assert not SignIn.objects.exists()


def test_sign_in__that_is_gone_refreshes_nothing(browser):
    SignIn.objects.update(expires_at=datetime.now(UTC) - timedelta(days=1))
    SignIn.objects.all().delete()
    assert browser.go_on().json()["code"] == "token_invalid"
