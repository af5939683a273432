"""Tokens of people: users of the admin sign in and get the scopes of their roles."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import authenticate, get_user_model
from django.utils.crypto import salted_hmac

from engine.access import grants, lockouts, roles, tokens

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.http import HttpRequest


def sign_in(request: HttpRequest, *, username: str, password: str) -> User | None:
    """Return the active user of these credentials, or None.

    Raises LockedOutError while too many tries have failed.
    """
    tried = lockouts.begin(name=username, address=request.META.get("REMOTE_ADDR"))
    found = authenticate(request, username=username, password=password)
    if found is None or not found.is_active:
        return None
    lockouts.succeed(tried)
    return found


def scopes_of(user: User) -> list[str]:
    """Return what the user may do through the API."""
    return roles.scopes_of(grants.held_by(user))


def access_token(user: User) -> str:
    """Return a short-lived token with the user's scopes as they are now."""
    return tokens.mint(
        key=settings.JWT_SECRET,
        subject=user.get_username(),
        scopes=scopes_of(user),
        ttl_seconds=settings.ACCESS_TOKEN_SECONDS,
        now=datetime.now(UTC),
        user_mark=_mark(user),
    )


def refresh_token(user: User) -> str:
    """Return a long-lived token that is good for nothing but new access tokens."""
    return tokens.mint(
        key=settings.JWT_SECRET,
        subject=user.get_username(),
        scopes=[],
        ttl_seconds=settings.REFRESH_TOKEN_SECONDS,
        now=datetime.now(UTC),
        kind="refresh",
        user_mark=_mark(user),
    )


def refreshed(token: str) -> User:
    """Return the user a refresh token belongs to.

    Raises TokenInvalidError when it is not valid, the user is gone or inactive, or the password
    was changed since.
    """
    claims = tokens.verify(token, key=settings.JWT_SECRET, kind="refresh")
    user: User | None = (
        get_user_model().objects.filter(username=claims.subject, is_active=True).first()
    )
    if user is None or not hmac.compare_digest(_mark(user), claims.user_mark):
        raise tokens.TokenInvalidError("The token is not valid any more; sign in again.")
    return user


def _mark(user: User) -> str:
    """Return a fingerprint of the user's credentials: another password, another mark."""
    return salted_hmac("engine.access.people", f"{user.pk}:{user.password}").hexdigest()[:16]
