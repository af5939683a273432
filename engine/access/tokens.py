"""JSON Web Tokens: which claims they carry, how they are signed, what is refused.

The clock and the keys are arguments: nothing here reads settings, the database or the network.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

import jwt
from jwt.utils import base64url_decode
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

ISSUER = "ai-business-engine"
AUDIENCE = "ai-business-engine-api"
ALGORITHM = "HS256"
#: Longest token that is looked at; ours have a tenth of it.
TOKEN_CHARACTERS = 8192
#: Longest subject; it is written into columns of this width.
SUBJECT_CHARACTERS = 150
#: Longest id of a token or a sign-in; those of others that hold JWT_SECRET may be longer than ours.
ID_CHARACTERS = 150
#: The end of year 9999: no clock can show a later expiry.
LATEST_EXPIRY = 253_402_300_799
BIGINT_MAX = 2**63 - 1

Kind = Literal["access", "refresh"]


class TokenInvalidError(EngineError):
    """Refuse a token: expired, forged, for somebody else, or not of the kind asked for."""

    code = "token_invalid"


class TokenExpiredError(TokenInvalidError):
    """Refuse a token that was good once."""


class KeyUnknownError(TokenInvalidError):
    """Refuse a token signed with a key that is not, or not any more, on the keyring."""

    code = "token_key_unknown"


class TokenRevokedError(TokenInvalidError):
    """Refuse a token that was revoked: by itself, its sign-in, its subject or its user."""

    code = "token_revoked"


class _NoSuchKeyError(TokenBackendError):
    """Carry the fact through simplejwt, whose callers expect its own errors."""


class Keyring(TokenBackend):
    """simplejwt's backend with several keys: one signs, and the header's `kid` says which verifies.

    signing: the kid of the key that signs. secrets: kid → key. unnamed: the kid of the key for
    tokens that name none (minted with JWT_SECRET by somebody else); empty refuses them.
    """

    def __init__(self, *, signing: str, secrets: Mapping[str, str], unnamed: str = "") -> None:
        super().__init__(ALGORITHM, signing_key=secrets[signing], audience=AUDIENCE, issuer=ISSUER)
        self.signing = signing
        self.unnamed = unnamed
        self._secrets = dict(secrets)

    def secret(self, kid: str) -> str | None:
        """Return a key."""
        return self._secrets.get(kid)

    def get_verifying_key(self, token: Any) -> str:
        """Return the key that the token's header names (simplejwt's hook)."""
        kid = _named_key(token.partition(".")[0])
        secret = self._secrets.get(self.unnamed if kid is None else kid)
        if secret is None:
            raise _NoSuchKeyError("no such key")
        return secret

    def encode(self, payload: dict[str, Any]) -> str:
        """Return the signed token; its header names the key."""
        return jwt.encode(
            {**payload, "aud": AUDIENCE, "iss": ISSUER},
            self._secrets[self.signing],
            algorithm=ALGORITHM,
            headers={"kid": self.signing},
        )


@lru_cache(maxsize=64)
def _named_key(header: str) -> str | None:
    """Return the kid of a token's header; None if it names none.

    Kept, because all tokens of one key have one header. PyJWT reads it again, and judges it.
    """
    said = json.loads(base64url_decode(header))
    kid = said.get("kid") if isinstance(said, dict) else ""
    if kid is not None and not isinstance(kid, str):
        raise TypeError("a key's id is text")
    return kid


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says about its holder."""

    subject: str
    scopes: tuple[str, ...]
    kind: Kind
    id: str
    expires_at: int = 0
    #: The access version at which it was minted: what was revoked by name before does not touch it.
    version: int = 0
    #: Number of the user it belongs to, and the sign-in it follows from; not of machines.
    user_id: int | None = None
    sign_in: str = ""
    #: Whether `mint_jwt` wrote it down.
    registered: bool = False


def new_id() -> str:
    """Return an id for a token."""
    return uuid.uuid4().hex


def mint(
    *,
    keys: Keyring,
    subject: str,
    scopes: Sequence[str],
    ttl_seconds: int,
    now: datetime,
    kind: Kind = "access",
    token_id: str = "",
    version: int = 0,
    user_id: int | None = None,
    sign_in: str = "",
    registered: bool = False,
) -> str:
    """Return a signed token that is good for `ttl_seconds` from `now` on."""
    issued = int(now.timestamp())
    payload: dict[str, Any] = {
        "sub": subject[:SUBJECT_CHARACTERS],
        "scopes": list(scopes),
        "token_type": kind,
        "jti": token_id or new_id(),
        "iat": issued,
        "exp": issued + ttl_seconds,
        "ver": version,
    }
    if user_id is not None:
        payload["uid"] = user_id
    if sign_in:
        payload["sid"] = sign_in
    if registered:
        payload["reg"] = True
    return keys.encode(payload)


def verify(token: str, *, keys: Keyring, kind: Kind | None = "access") -> Claims:
    """Return the claims of a token whose signature, times, issuer, audience and kind are right.

    kind: None takes either. Raises TokenInvalidError; its message never repeats any of the token.
    """
    if len(token) > TOKEN_CHARACTERS:
        raise TokenInvalidError("The token is too long to be one of ours.")
    try:
        payload: dict[str, Any] = dict(keys.decode(cast("Any", token)))
    except TokenBackendExpiredToken as exc:
        raise TokenExpiredError("The token has expired.") from exc
    except _NoSuchKeyError as exc:
        raise KeyUnknownError("The key this token was signed with is not known here.") from exc
    # What PyJWT does not foresee: deep nesting, numbers no clock has, half a surrogate.
    except (TokenBackendError, ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise TokenInvalidError("The token is not valid here.") from exc
    if kind is not None and payload.get("token_type") != kind:
        raise TokenInvalidError(f"A token of the kind {kind!r} is needed here.")
    return _claims(payload)


def _claims(said: dict[str, Any]) -> Claims:
    """Return the claims of a payload, strictly: others that hold a key mint what we would not."""
    subject, scopes, kind = said.get("sub"), said.get("scopes"), said.get("token_type")
    if not isinstance(subject, str) or not isinstance(scopes, list) or "exp" not in said:
        raise TokenInvalidError("The token lacks its subject, scopes or expiry.")
    if not subject or not subject.isprintable() or len(subject) > SUBJECT_CHARACTERS:
        raise TokenInvalidError("The token's subject cannot be recorded.")
    expires_at = said["exp"]
    # PyJWT takes the text of a number too.
    if type(expires_at) not in {int, float} or expires_at > LATEST_EXPIRY:
        raise TokenInvalidError("The token's expiry is malformed.")
    if not all(isinstance(scope, str) for scope in scopes):
        raise TokenInvalidError("The token's scopes are malformed.")
    token_id, sign_in = said.get("jti", ""), said.get("sid", "")
    if not _is_id(token_id) or not _is_id(sign_in):
        raise TokenInvalidError("The token's ids are malformed.")
    version, user_id = said.get("ver", 0), said.get("uid")
    if not _is_number(version) or not (user_id is None or _is_number(user_id)):
        raise TokenInvalidError("The token's version or user is malformed.")
    if kind not in ("access", "refresh"):
        raise TokenInvalidError("The token is of no kind that is known here.")
    return Claims(
        subject=subject,
        scopes=tuple(scopes),
        kind=kind,
        id=token_id,
        expires_at=int(expires_at),
        version=version,
        user_id=user_id,
        sign_in=sign_in,
        registered=said.get("reg") is True,
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= ID_CHARACTERS


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= BIGINT_MAX
