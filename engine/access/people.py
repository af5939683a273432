"""People: users of the admin sign in to the API and get the scopes of their roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import authenticate, get_user_model

from engine.access import grants, lockouts, roles
from engine.audit import trail

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


def note_sign_in(username: str, user: User | None) -> None:
    """Write into the audit trail that somebody signed in, or tried to.

    A name that nobody has is not written: people type their password into the wrong field.
    """
    if user is not None:
        name = user.get_username()
        trail.record("auth.sign_in", kind="user", id=name, actor=name)
        return
    known = get_user_model().objects.filter(username=username).exists()
    name = username if known else ""
    trail.record("auth.sign_in", kind="user", id=name, outcome="refused")


def scopes_of(user: User) -> list[str]:
    """Return what the user may do through the API."""
    return roles.scopes_of(grants.held_by(user))
