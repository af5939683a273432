"""Secrets a single machine makes for itself on first use: files only their owner can read."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def kept_secret(path: Path) -> str:
    """Return the secret in the file; make file and secret if there is none.

    Several processes may start at once: the first to link its file in wins, the others read it.
    """
    if known := known_secret(path):
        return known
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()
    return path.read_text().strip()


def known_secret(path: Path) -> str:
    """Return the secret in the file; empty without one."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    return ""
