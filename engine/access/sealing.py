"""Keep secrets in the database unreadable without the master key. Pure: the key is an argument."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.errors import EngineError

#: What the derived keys are for: another purpose would get other keys out of the same text.
PURPOSE = b"ai-business-engine: secrets at rest"


class UnsealableError(EngineError):
    """Say that a stored secret was sealed with another master key."""

    code = "secret_unreadable"


def seal(secret: str, *, key: str) -> str:
    """Return the secret, encrypted and authenticated (Fernet).

    key: the master key; of several, separated by commas, the first seals and every one unseals.
    """
    return _box(key).encrypt(secret.encode()).decode()


def unseal(sealed: str, *, key: str) -> str:
    """Return a sealed secret; raises UnsealableError when no part of the key fits."""
    try:
        return _box(key).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise UnsealableError(
            "A stored secret was sealed with another MASTER_KEY; put that one behind the present "
            "one, separated by a comma, or store the secret anew."
        ) from None


def _box(key: str) -> MultiFernet:
    parts = [part.strip() for part in key.split(",") if part.strip()]
    if not parts:
        raise UnsealableError("MASTER_KEY is not set; stored secrets cannot be read.")
    return MultiFernet([Fernet(_derived(part)) for part in parts])


def _derived(text: str) -> bytes:
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=PURPOSE)
    return base64.urlsafe_b64encode(kdf.derive(text.encode()))
