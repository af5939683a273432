"""The keys that sign tokens, in PostgreSQL, sealed with the master key.

One key signs, all that are not dropped verify. JWT_SECRET is put on the keyring by the first
process that sees it, and signs from then on, as after a rotation; without it the first process
makes a key. A dropped key leaves its kid behind, so that a JWT_SECRET that was given up, or leaked,
is never taken on again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from engine.access import sealing, versions
from engine.access.tokens import Keyring
from engine.audit import trail
from engine.models import MachineToken, SignIn, SigningKey

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

log = structlog.get_logger(__name__)

#: Bytes of a key: what HS256 can use.
KEY_BYTES = 32
KID_CHARACTERS = 16
#: Added to the longest life of what a key may have signed: clocks differ, and for a second after a
#: rotation other processes still sign with the old key. In seconds.
SLACK_SECONDS = 120


def load(known: Keyring | None = None) -> Keyring:
    """Return the keys that verify, and the one that signs, made if there is none.

    known: the keys as they were; they are not unsealed again. Raises UnsealableError when the
    signing key was sealed with another master key; an older key in that state is left out.
    """
    given = _kid_of(settings.JWT_SECRET)
    rows = _rows()
    if not any(row.signs for row in rows) or (given and given not in {row.kid for row in rows}):
        _complete(given)
        rows = _rows()
    found: dict[str, str] = {}
    signing = ""
    for row in rows:
        if row.dropped_at is not None:
            continue
        if row.signs:
            signing = row.kid
        try:
            found[row.kid] = (known and known.secret(row.kid)) or sealing.unseal(
                row.sealed, key=settings.MASTER_KEY
            )
        except sealing.UnsealableError:
            log.warning("signing_key_unreadable", kid=row.kid, signs=row.signs)
            if row.signs:
                raise
    return Keyring(signing=signing, secrets=found, unnamed=given if given in found else "")


def rotate(*, by: str, drop_old: bool = False) -> str:
    """Put a new key on the keyring and let it sign; return its kid.

    The others verify until what they signed has expired. drop_old: they verify nothing any more,
    for one of them has leaked; everybody signs in again, machines get new tokens. by: who says so.
    """
    with transaction.atomic():
        versions.raised()
        given = _kid_of(settings.JWT_SECRET)
        if given and not SigningKey.objects.filter(kid=given).exists():
            _add(given, settings.JWT_SECRET, is_given=True)
        kid = secrets.token_hex(KID_CHARACTERS // 2)
        _add(kid, secrets.token_urlsafe(KEY_BYTES), is_given=False)
        if drop_old:
            _drop(SigningKey.objects.exclude(kid=kid))
        after = {"drop_old": drop_old}
        trail.record("signing_key.rotate", kind="signing_key", id=kid, actor=by, after=after)
    return kid


def drop_expired(*, now: datetime) -> int:
    """Drop the keys whose last token has expired; return how many."""
    alive = {"kid": OuterRef("kid"), "expires_at__gt": now, "revoked_at": None}
    spent = SigningKey.objects.filter(
        Q(is_given=False, retired_at__lt=_before(now, settings.ACCESS_TOKEN_SECONDS))
        # Whoever else holds JWT_SECRET may have signed with it what no row tells of.
        | Q(retired_at__lt=_before(now, settings.REFRESH_TOKEN_SECONDS)),
        ~Exists(MachineToken.objects.filter(**alive)),
        ~Exists(SignIn.objects.filter(**alive)),
        dropped_at=None,
    )
    if not spent.exists():
        return 0
    with transaction.atomic():
        versions.raised()
        return _drop(spent)


def _rows() -> list[SigningKey]:
    return list(SigningKey.objects.order_by("id"))


def _complete(given: str) -> None:
    """Take JWT_SECRET on, or make the first key: one process does, the others find it done."""
    with transaction.atomic():
        versions.raised()  # one at a time from here on
        if given and not SigningKey.objects.filter(kid=given).exists():
            _add(given, settings.JWT_SECRET, is_given=True)
        elif not SigningKey.objects.filter(signs=True).exists():
            kid = secrets.token_hex(KID_CHARACTERS // 2)
            _add(kid, secrets.token_urlsafe(KEY_BYTES), is_given=False)


def _add(kid: str, secret: str, *, is_given: bool) -> None:
    SigningKey.objects.filter(signs=True).update(signs=False, retired_at=Now())
    SigningKey.objects.create(
        kid=kid,
        sealed=sealing.seal(secret, key=settings.MASTER_KEY),
        is_given=is_given,
        signs=True,
        created_at=Now(),
    )
    log.info("signing_key_added", kid=kid, given=is_given)


def _drop(keys: QuerySet[SigningKey]) -> int:
    dropped = keys.filter(dropped_at=None).update(sealed="", dropped_at=Now())
    log.info("signing_keys_dropped", keys=dropped)
    return dropped


def _before(now: datetime, seconds: int) -> datetime:
    return now - timedelta(seconds=seconds + SLACK_SECONDS)


def _kid_of(secret: str) -> str:
    """Return the kid of JWT_SECRET: the same in every process, and nothing to find it by."""
    if not secret:
        return ""
    return hmac.new(secret.encode(), b"kid", hashlib.sha256).hexdigest()[:KID_CHARACTERS]
