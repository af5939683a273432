"""Judge a token as every process of the installation does: signature, kind, expiry, revocation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.access import snapshot, tokens, usage

if TYPE_CHECKING:
    from engine.access.tokens import Claims, Kind


def verified(token: str, *, kind: Kind | None = "access") -> Claims:
    """Return the claims of a token that is good now; no round trip to the database, as a rule.

    kind: None takes either. Raises TokenInvalidError (KeyUnknownError, TokenRevokedError), or an
    error of the connection when the database cannot be asked what is revoked.
    """
    came = time.monotonic()
    known = snapshot.current()
    try:
        claims = tokens.verify(token, keys=known.keys, kind=kind)
    except tokens.KeyUnknownError:
        # Signed a moment ago, with a key that another process has just put on the keyring?
        known = snapshot.current(since=came)
        claims = tokens.verify(token, keys=known.keys, kind=kind)
    if known.revocations.cover(claims):
        raise tokens.TokenRevokedError("The token was revoked.")
    if claims.registered:
        usage.note(claims.id)
    return claims
