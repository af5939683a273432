"""What production starts with, and what it refuses, in one line that repeats no secret."""

import secrets

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import secret_strength

GOOD = "9f2c61d07be845a3c1f0e67ad9b35824"


def check(value=GOOD, *, other=None, password=""):
    secret_strength.check(
        {"SECRET_KEY": [value], "MASTER_KEY": [other] if other else []}, {"REDIS_URL": password}
    )


@pytest.mark.parametrize("make", [secrets.token_hex, secrets.token_urlsafe])
def test_secret__that_is_random_passes(make):
    for _ in range(300):
        check(make(32), other=make(24), password=make(12))
    for _ in range(300):
        check(secrets.token_hex(16))


def test_secret__drawn_with_bad_luck_passes():
    check("55cceb0f5b8b85bbb8bbf474e0c84c74")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("", "not set"),
        (GOOD[:31], "31 characters"),
        ("django-insecure-8a$k1)x9@m2^v!q4z7w0e3r5t6y", "published"),
        ("a-key-that-only-tests-ever-use-0123456789abcdef", "published"),
        ("a-master-key-that-only-tests-ever-use-0123456789", "published"),
        ("change-me-to-something-long-and-unguessable-please", "published"),
        ("your-32-character-or-longer-key-goes-here-now", "published"),
        ("0123456789abcdef0123456789abcdef", "repeats"),
        ("a" * 64, "repeats"),
        ("abababababababababababababababab", "repeats"),
        ("aaaaaaaabbbbbbbbccccccccdddddddd", "few different"),
        ("1111111111111111111111111111111111111111112", "few different"),
    ],
)
def test_secret__that_is_weak_is_refused_in_one_line(value, word):
    with pytest.raises(ImproperlyConfigured) as refused:
        check(value)
    line = str(refused.value)
    assert line.startswith("SECRET_KEY ")
    assert word in line
    assert "openssl rand -hex 32" in line
    assert "\n" not in line
    assert not value or value not in line


def test_secrets__of_two_purposes_must_differ():
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY and MASTER_KEY have the same"):
        check(other=GOOD)
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY and REDIS_URL have the same"):
        check(password=GOOD)


@pytest.mark.parametrize("password", ["redis", "Postgres", "changeme", "short-one"])
def test_password__of_a_server_that_is_a_default_or_short_is_refused(password):
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL: its password"):
        check(password=password)
    check(password="")
