"""The first operator's account, and Flower's password."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from config import local_secrets
from engine.audit import trail

OPERATOR = "operator"
PASSWORD_BYTES = 12


def ensure_operator() -> str | None:
    """Create the operator if nobody may enter the admin yet; return the password made."""
    people = get_user_model().objects
    if people.filter(is_superuser=True, is_active=True).exists():
        return None
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    with transaction.atomic():
        people.create_superuser(username=OPERATOR, password=password)
        after = {"username": OPERATOR, "is_superuser": True}
        trail.record("user.create", kind="user", id=OPERATOR, after=after)
    return password


def flower_login() -> str:
    """Return `name:password` for Flower; the password is kept in a file only its owner can read."""
    path = settings.VAR_DIR / "secrets" / "flower_password"
    return f"{OPERATOR}:{local_secrets.kept_secret(path)}"
