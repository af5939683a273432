"""Refuse tokens before they expire: by token, sign-in, subject or user, in PostgreSQL alone.

Each process has what is refused in its snapshot; see `engine.access.snapshot` for how soon.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from engine import sql
from engine.access import versions
from engine.audit import trail
from engine.errors import EngineError
from engine.models import MachineToken, SignIn

if TYPE_CHECKING:
    from typing import Any

    from engine.access.tokens import Claims

#: How long a token can be good that nobody here wrote down; `mint_jwt` goes no further either.
LONGEST_SECONDS = 10 * 365 * 24 * 3600

WRITE = """
INSERT INTO engine_revocation AS r (kind, value, version, revoked_at, revoked_by, expires_at)
VALUES (%(kind)s, %(value)s, %(version)s, clock_timestamp(), %(by)s, %(expires_at)s)
ON CONFLICT (kind, value) DO UPDATE SET version = excluded.version,
    revoked_at = excluded.revoked_at, revoked_by = excluded.revoked_by,
    expires_at = greatest(r.expires_at, excluded.expires_at)"""


class UnnamedError(EngineError):
    """Refuse to revoke a token by itself that has nothing to be told from others by."""

    code = "token_without_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """How many known tokens of machines and sign-ins of users were good until now."""

    tokens: int = 0
    sign_ins: int = 0


def revoke(claims: Claims, *, by: str) -> Revoked:
    """Revoke the token with these claims; of a user's, access or refresh, the whole sign-in.

    Raises UnnamedError for one of another holder of JWT_SECRET that has neither id nor sign-in:
    refused by "no id", it would take all of its kind with it.
    """
    if claims.sign_in:
        return revoke_sign_in(claims.sign_in, by=by)
    if not claims.id:
        raise UnnamedError("The token has no id (jti) to revoke it by; revoke its subject.")
    return revoke_token(claims.id, by=by, expires_at=datetime.fromtimestamp(claims.expires_at, UTC))


def revoke_token(jti: str, *, by: str, expires_at: datetime | None = None) -> Revoked:
    """Revoke the token of this id, also one that nobody here wrote down.

    expires_at: when it would expire; without it, as long as any token could be good.
    """
    with transaction.atomic():
        _refuse("token", jti, version=versions.raised(), by=by, expires_at=expires_at)
        ended = MachineToken.objects.filter(jti=jti, revoked_at=None, expires_at__gt=Now())
        return Revoked(tokens=ended.update(revoked_at=Now(), revoked_by=by))


def revoke_subject(subject: str, *, by: str) -> Revoked:
    """Revoke every token of a subject that was minted until now; later ones are good."""
    with transaction.atomic():
        _refuse("subject", subject, version=versions.raised(), by=by)
        good: dict[str, Any] = {"subject": subject, "revoked_at": None, "expires_at__gt": Now()}
        ending: dict[str, Any] = {"revoked_at": Now(), "revoked_by": by}
        return Revoked(
            tokens=MachineToken.objects.filter(**good).update(**ending),
            sign_ins=SignIn.objects.filter(**good).update(**ending),
        )


def revoke_sign_in(sign_in: str, *, by: str) -> Revoked:
    """End a sign-in: its refresh token, and the access tokens that came of it."""
    with transaction.atomic():
        # Its row refuses refresh tokens for good; its access tokens are gone long before.
        until = datetime.now(UTC) + timedelta(seconds=settings.REFRESH_TOKEN_SECONDS)
        _refuse("sign_in", sign_in, version=versions.raised(), by=by, expires_at=until)
        # Other holders of JWT_SECRET call their sign-ins as they like; no row is one of theirs.
        rows = SignIn.objects.filter(pk=sign_in) if is_uuid(sign_in) else SignIn.objects.none()
        ended = rows.filter(revoked_at=None, expires_at__gt=Now())
        return Revoked(sign_ins=ended.update(revoked_at=Now(), revoked_by=by))


def revoke_access(user_id: int, *, by: str) -> None:
    """Refuse the access tokens a user has; the next refresh gives one with the rights of then.

    For whoever takes rights away. A user's new password and deactivation need no call: a trigger
    of the database ends their sign-ins (migration `tokens`).
    """
    with transaction.atomic():
        _write("user", str(user_id), version=versions.raised(), by=by)


def is_uuid(text: str) -> bool:
    """Tell whether a text can be the key of a sign-in of ours."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _refuse(
    kind: str, value: str, *, version: int, by: str, expires_at: datetime | None = None
) -> None:
    """Do what somebody asked for: it stands in the audit trail."""
    _write(kind, value, version=version, by=by, expires_at=expires_at)
    trail.record(f"{kind}.revoke", kind=kind, id=value, actor=by)


def _write(
    kind: str, value: str, *, version: int, by: str, expires_at: datetime | None = None
) -> None:
    expires_at = expires_at or datetime.now(UTC) + timedelta(seconds=LONGEST_SECONDS)
    sql.rows(
        WRITE,
        {
            "kind": kind,
            "value": value,
            "version": version,
            "by": by[:150],
            "expires_at": expires_at,
        },
    )
