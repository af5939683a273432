"""Secrets and signatures of Standard Webhooks 1.0 (standardwebhooks.com): `whsec_…`, `v1,…`."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING

from standardwebhooks import Webhook, WebhookVerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

SECRET_PREFIX = "whsec_"  # noqa: S105 - the standard's prefix # nosec B105
#: The standard asks for 24 to 64.
SECRET_BYTES = 32
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64


def new_secret() -> str:
    """Return a fresh signing secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def check_secret(secret: str) -> None:
    """Raise ValueError unless a secret that somebody else has made is one of the standard."""
    text = secret.removeprefix(SECRET_PREFIX)
    try:
        size = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if text == secret or not MIN_SECRET_BYTES <= size <= MAX_SECRET_BYTES:
        raise ValueError(
            f"must be {SECRET_PREFIX} and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes in base64"
        )


def is_signed(*, body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> bool:
    """Tell whether one of the secrets has signed the body within five minutes of now.

    headers: `webhook-id`, `webhook-timestamp` and `webhook-signature`, as they came.
    """
    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError, TypeError):
            continue  # also of what is not even a signature, or no text
        return True
    return False


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
