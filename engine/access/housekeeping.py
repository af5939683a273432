"""Forget what can refuse or allow nothing any more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from engine.access import keyring
from engine.models import MachineToken, Revocation, SignIn

if TYPE_CHECKING:
    from datetime import datetime

#: How long an expired token stays in the registry: who had it is asked afterwards.
KEPT = timedelta(days=90)


def sweep(*, now: datetime, limit: int) -> bool:
    """Drop spent keys and delete expired rows; return whether there may be more.

    limit: of each kind, at most.
    """
    keyring.drop_expired(now=now)
    deleted = [
        _delete(Revocation, before=now, limit=limit),
        _delete(SignIn, before=now, limit=limit),
        _delete(MachineToken, before=now - KEPT, limit=limit),
    ]
    return limit in deleted


def _delete(
    model: type[MachineToken | Revocation | SignIn], *, before: datetime, limit: int
) -> int:
    found = model.objects.filter(expires_at__lt=before).order_by("pk")
    deleted, _ = model.objects.filter(
        pk__in=list(found.values_list("pk", flat=True)[:limit])
    ).delete()
    return deleted
