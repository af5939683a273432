"""The registry of tokens for machines: who got one, for what, until when, when it was last used."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from engine.access import snapshot, tokens, versions
from engine.audit import trail
from engine.models import MachineToken

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def mint(*, subject: str, scopes: Sequence[str], ttl_seconds: int, now: datetime, by: str) -> str:
    """Return a token that is good for `ttl_seconds` from `now` on; its row is there before it.

    subject: whom its acts are recorded under. by: who asked for it. The token itself is kept
    nowhere.
    """
    keys = snapshot.current().keys
    jti = tokens.new_id()
    with transaction.atomic():
        version = versions.current()
        MachineToken.objects.create(
            jti=jti,
            subject=subject,
            scopes=list(scopes),
            kid=keys.signing,
            created_at=now,
            created_by=by[: tokens.SUBJECT_CHARACTERS],
            expires_at=now + timedelta(seconds=ttl_seconds),
        )
        after = {"name": subject, "scopes": scopes, "ttl_seconds": ttl_seconds}
        trail.record("token.mint", kind="token", id=jti, actor=by, after=after)
    return tokens.mint(
        keys=keys,
        subject=subject,
        scopes=scopes,
        ttl_seconds=ttl_seconds,
        now=now,
        token_id=jti,
        version=version,
        registered=True,
    )


def listed(
    *, limit: int, subject: str | None = None, include_ended: bool = False
) -> list[MachineToken]:
    """Return tokens, newest first; those that are good now, unless the ended ones are wanted."""
    found = MachineToken.objects.order_by("-id")
    if subject is not None:
        found = found.filter(subject=subject)
    if not include_ended:
        found = found.filter(revoked_at=None, expires_at__gt=Now())
    return list(found[:limit])


def standing(token: MachineToken, *, now: datetime) -> str:
    """Return `active`, `expired` or `revoked`."""
    if token.revoked_at is not None:
        return "revoked"
    return "active" if token.expires_at > now else "expired"
