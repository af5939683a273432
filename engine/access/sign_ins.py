"""A user's sign-in: an access token for minutes, and a refresh token that is good once.

Each refresh gives another refresh token and makes the old one worthless. One that comes back after
that was copied, and nobody can say which of the two is the thief: the whole sign-in ends.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from engine import sql
from engine.access import bearers, people, revocations, snapshot, tokens, versions
from engine.access.tokens import TokenInvalidError, TokenRevokedError
from engine.audit import trail
from engine.models import SignIn

if TYPE_CHECKING:
    from typing import Any

    from django.contrib.auth.models import User

    from engine.access.tokens import Claims, Keyring

log = structlog.get_logger(__name__)

#: Who holds the row is exchanging this very token: then we are the second, and do not wait.
LOCKED = """
SELECT user_id, current, previous, refreshed_at, revoked_at FROM engine_signin
WHERE id = %(id)s FOR UPDATE NOWAIT"""


class TokenUsedError(TokenInvalidError):
    """Refuse the second of two requests that were under way with the same refresh token."""

    code = "token_used"


@dataclass(frozen=True, slots=True)
class Pair:
    """What a user is given: both tokens, and what the access token allows."""

    access: str
    refresh: str
    scopes: list[str]


def begin(user: User) -> Pair:
    """Return the first tokens of a user who has just proven who they are.

    Raises TokenInvalidError when the user's password was changed, or the user deactivated, since.
    """
    keys = snapshot.current().keys
    now = datetime.now(UTC)
    row = SignIn(
        id=uuid.uuid4(),
        user_id=user.pk,
        subject=user.get_username(),
        current=tokens.new_id(),
        kid=keys.signing,
        created_at=now,
        refreshed_at=now,
        expires_at=now + timedelta(seconds=settings.REFRESH_TOKEN_SECONDS),
    )
    with transaction.atomic():
        # Held until the sign-in is there to be ended: a new password ends what it finds.
        users = get_user_model().objects.select_for_update()
        if not users.filter(pk=user.pk, password=user.password, is_active=True).exists():
            raise TokenInvalidError("The user has changed meanwhile; sign in again.")
        row.save(force_insert=True)
        return _pair(user, row, keys=keys, version=versions.current(), now=now)


def exchange(token: str, *, came_at: datetime) -> Pair:
    """Return the next tokens for a refresh token, which is worth nothing from then on.

    came_at: when the request came in. Of several requests at the same time one gets the tokens and
    the others TokenUsedError; one that comes later ends the sign-in (TokenRevokedError).
    """
    claims = bearers.verified(token, kind="refresh")
    keys = snapshot.current().keys
    try:
        sign_in = str(uuid.UUID(claims.sign_in))
    except ValueError:
        raise TokenInvalidError("The token belongs to no sign-in; sign in again.") from None
    try:
        with transaction.atomic():
            return _exchanged(sign_in, claims, keys=keys, came_at=came_at)
    except psycopg.errors.LockNotAvailable:
        raise TokenUsedError("The token is being used by another request.") from None
    except _ReusedError:
        # Not in the transaction above: it has locked the row before the version.
        revocations.revoke_sign_in(sign_in, by="reuse of a refresh token")
        log.warning("refresh_token_reused", subject=claims.subject, sign_in=sign_in)
        raise TokenRevokedError("The token was used before; sign in again.") from None


class _ReusedError(Exception):
    """Say that a refresh token came back after it was exchanged."""


def _exchanged(sign_in: str, claims: Claims, *, keys: Keyring, came_at: datetime) -> Pair:
    found = sql.rows(LOCKED, {"id": sign_in})
    if not found:
        raise TokenInvalidError("The token belongs to no sign-in; sign in again.")
    (row,) = found
    if row.revoked_at is not None:
        raise TokenRevokedError("The token was revoked; sign in again.")
    if row.current != claims.id:
        if row.previous == claims.id and came_at < row.refreshed_at:
            raise TokenUsedError("The token was used by another request at the same time.")
        raise _ReusedError
    user: User | None = get_user_model().objects.filter(pk=row.user_id, is_active=True).first()
    if user is None:
        raise TokenRevokedError("The user is gone or inactive.")
    now = datetime.now(UTC)
    changes: dict[str, Any] = {
        "current": tokens.new_id(),
        "previous": claims.id,
        "kid": keys.signing,
        "refreshed_at": now,
        "expires_at": now + timedelta(seconds=settings.REFRESH_TOKEN_SECONDS),
    }
    SignIn.objects.filter(pk=sign_in).update(**changes)
    name = user.get_username()
    trail.record("auth.refresh", kind="user", id=name, actor=name)
    following = SignIn(id=uuid.UUID(sign_in), user_id=user.pk, **changes)
    return _pair(user, following, keys=keys, version=versions.current(), now=now)


def _pair(user: User, row: SignIn, *, keys: Keyring, version: int, now: datetime) -> Pair:
    scopes = people.scopes_of(user)
    common: dict[str, Any] = {
        "keys": keys,
        "subject": user.get_username(),
        "now": now,
        "version": version,
        "user_id": user.pk,
        "sign_in": str(row.pk),
    }
    return Pair(
        access=tokens.mint(
            **common, scopes=scopes, ttl_seconds=settings.ACCESS_TOKEN_SECONDS, kind="access"
        ),
        refresh=tokens.mint(
            **common,
            scopes=[],
            ttl_seconds=settings.REFRESH_TOKEN_SECONDS,
            kind="refresh",
            token_id=row.current,
        ),
        scopes=scopes,
    )
