"""People: users of the admin sign in to the API and get the scopes of their roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import authenticate

from engine.access import grants, lockouts, roles

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
