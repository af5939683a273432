"""Tokens that are wrong in every way: refused in words, never a crash."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.access import tokens

SECRET, OLD = "a-key-of-this-test-only-0123456789abcdef", "another-key-of-this-test-0123456789abcd"
KEYS = tokens.Keyring(signing="new", secrets={"new": SECRET, "old": OLD})
NOW = datetime.now(UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def good(**more) -> str:
    return tokens.mint(
        keys=KEYS, subject="x", scopes=["runs.read"], ttl_seconds=3600, now=NOW, **more
    )


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def refused(token: str) -> str:
    with pytest.raises(tokens.TokenInvalidError) as caught:
        tokens.verify(token, keys=KEYS, kind=None)
    assert len(token) < 20 or token not in caught.value.message
    return caught.value.code


def signed(payload: dict, *, kid: str = "new", **header) -> str:
    body = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid, **header}).encode())
    body += "." + part(json.dumps(payload).encode())
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return f"{body}.{part(signature.sign(body.encode(), SECRET.encode()))}"


def said(**changes) -> dict:
    found = jwt.decode(good(), options={"verify_signature": False})
    return {**found, **changes}


def test_token__is_verified_by_the_key_it_names():
    old = tokens.Keyring(signing="old", secrets={"old": OLD})
    token = tokens.mint(keys=old, subject="x", scopes=[], ttl_seconds=3600, now=NOW)
    assert tokens.verify(token, keys=KEYS).subject == "x"
    assert jwt.get_unverified_header(good())["kid"] == "new"


def test_token__that_names_the_other_key_is_refused():
    assert refused(signed(said(), kid="old")) == "token_invalid"
    assert refused(signed(said(), kid="gone")) == "token_key_unknown"
    unnamed = jwt.encode(said(), SECRET, algorithm="HS256")
    assert refused(unnamed) == "token_key_unknown"


def test_signed__says_what_mint_says():
    assert tokens.verify(signed(said()), keys=KEYS).subject == "x"


def test_keys__are_not_in_what_a_log_would_show():
    assert SECRET not in repr(KEYS)
    assert SECRET not in str(KEYS)


@given(st.text())
@example("é")
@example("..")
@example("a" * 10_000)
@example("\ud800")
def test_text__is_refused(text):
    refused(text)


@given(st.binary(), st.binary(), st.binary())
@example(b"[" * 5000, b"{}", b"")
@example(b"\xff", b"{}", b"")
@example(b'{"alg": "none"}', b"{}", b"")
@example(b'{"alg": "HS256", "kid": {}}', b"{}", b"")
@example(b'{"alg": [], "kid": "new"}', b"{}", b"")
@example(b'{"alg": "HS256", "kid": "new", "crit": ["x"]}', b"{}", b"")
@example(b'{"alg": "HS256", "kid": "new", "b64": false}', b"{}", b"")
def test_parts__are_refused(header, payload, signature):
    refused(f"{part(header)}.{part(payload)}.{part(signature)}")


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "zip"]), json_values))
def test_header__of_any_kind_is_refused(header):
    refused(f"{part(json.dumps(header).encode())}.{part(b'{}')}.{part(b'x')}")


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_payload__that_is_signed_and_says_something_else_is_refused(payload):
    refused(signed(payload))


CLAIMS = ["sub", "scopes", "exp", "iat", "nbf", "jti", "sid", "ver", "uid", "aud", "iss", "reg"]


@given(st.sampled_from([*CLAIMS, "token_type"]), json_values)
@example("exp", float("inf"))
@example("exp", float("nan"))
@example("exp", "99999999999")
@example("exp", 10**400)
@example("exp", True)
@example("iat", float("inf"))
@example("nbf", float("-inf"))
@example("ver", True)
@example("ver", 2**63)
@example("uid", -1)
@example("jti", "x" * 151)
@example("sub", "\ud800")
@example("aud", {})
def test_claim__of_any_kind_is_refused_or_comes_out_sound(claim, value):
    try:
        claims = tokens.verify(signed(said(**{claim: value})), keys=KEYS, kind=None)
    except tokens.TokenInvalidError:
        return
    assert 0 < claims.expires_at <= tokens.LATEST_EXPIRY
    assert 1 <= len(claims.subject) <= tokens.SUBJECT_CHARACTERS
    assert claims.subject.isprintable()
    assert claims.kind in {"access", "refresh"}
    assert 0 <= claims.version <= tokens.BIGINT_MAX
    assert len(claims.id) <= tokens.ID_CHARACTERS


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_token__changed_in_one_place_is_refused(place, value):
    token = good()
    place %= len(token)
    changed = token[:place] + chr(value) + token[place + 1 :]
    last = {token.find("."), token.rfind("."), len(token)}
    if changed == token or place + 1 in last:
        return  # the last character of a part carries bits that say nothing
    refused(changed)
