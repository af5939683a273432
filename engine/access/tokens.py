"""JSON Web Tokens: which claims they carry, how they are signed, what is refused.

The clock and the key are arguments: nothing here reads settings, the database or the network.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

ISSUER = "ai-business-engine"
AUDIENCE = "ai-business-engine-api"
ALGORITHM = "HS256"
#: Longest subject; it is written into columns of this width.
SUBJECT_CHARACTERS = 150
#: The end of year 9999: no clock can show a later expiry.
LATEST_EXPIRY = 253_402_300_799

Kind = Literal["access", "refresh"]


class TokenInvalidError(EngineError):
    """Refuse a token: expired, forged, for somebody else, or not of the kind asked for."""

    code = "token_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says about its holder."""

    subject: str
    scopes: tuple[str, ...]
    kind: Kind
    id: str
    #: Fingerprint of the user's credentials; empty for tokens that belong to no user.
    user_mark: str = ""
    expires_at: int = 0


def _backend(key: str) -> TokenBackend:
    return TokenBackend(ALGORITHM, signing_key=key, audience=AUDIENCE, issuer=ISSUER)


def mint(
    *,
    key: str,
    subject: str,
    scopes: Sequence[str],
    ttl_seconds: int,
    now: datetime,
    kind: Kind = "access",
    user_mark: str = "",
) -> str:
    """Return a signed token that is good for `ttl_seconds` from `now` on."""
    issued = int(now.timestamp())
    payload = {
        "sub": subject[:SUBJECT_CHARACTERS],
        "scopes": list(scopes),
        "token_type": kind,
        "jti": uuid.uuid4().hex,
        "iat": issued,
        "exp": issued + ttl_seconds,
    }
    if user_mark:
        payload["mark"] = user_mark
    return _backend(key).encode(payload)


def verify(token: str, *, key: str, kind: Kind = "access") -> Claims:
    """Return the claims of a token whose signature, times, issuer, audience and kind are right.

    Raises TokenInvalidError; its message never repeats any of the token.
    """
    try:
        payload: dict[str, Any] = dict(_backend(key).decode(cast("Any", token)))
    except TokenBackendExpiredToken as exc:
        raise TokenInvalidError("The token has expired.") from exc
    except (TokenBackendError, ValueError, TypeError) as exc:
        raise TokenInvalidError("The token is not valid here.") from exc
    subject, scopes = payload.get("sub"), payload.get("scopes")
    if payload.get("token_type") != kind:
        raise TokenInvalidError(f"A token of the kind {kind!r} is needed here.")
    if not isinstance(subject, str) or not isinstance(scopes, list) or "exp" not in payload:
        raise TokenInvalidError("The token lacks its subject, scopes or expiry.")
    # Another holder of the key (an identity provider) may mint what we would not.
    if not subject or not subject.isprintable() or len(subject) > SUBJECT_CHARACTERS:
        raise TokenInvalidError("The token's subject cannot be recorded.")
    if not all(isinstance(scope, str) for scope in scopes) or payload["exp"] > LATEST_EXPIRY:
        raise TokenInvalidError("The token's scopes or expiry are malformed.")
    return Claims(
        subject=subject,
        scopes=tuple(scopes),
        kind=kind,
        id=str(payload.get("jti", "")),
        user_mark=str(payload.get("mark", "")),
        expires_at=int(payload["exp"]),
    )
