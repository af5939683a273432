"""Secrets and signatures of Standard Webhooks 1.0 (standardwebhooks.com): `whsec_…`, `v1,…`."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

SECRET_PREFIX = "whsec_"  # noqa: S105 - the standard's prefix # nosec B105
#: The standard asks for 24 to 64.
SECRET_BYTES = 32
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64


def new_secret() -> str:
    """Return a fresh signing secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(
    *, message_id: str, body: str, at: datetime, secrets: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the standard's three headers; each secret signs, so that receivers may change over.

    at: the moment of this attempt, with its time zone; the newest secret comes first.
    """
    signatures = [Webhook(secret).sign(message_id, at, body) for secret in secrets]
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(int(at.timestamp()))),
        ("webhook-signature", " ".join(signatures)),
    ]
