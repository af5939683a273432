"""Slow the guessing of passwords down, for the API's sign-in and the admin's alike."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.core.cache import cache

if TYPE_CHECKING:
    from django.http import HttpRequest

TRIES_PER_WINDOW = 20
WINDOW_SECONDS = 60


def wait_seconds(request: HttpRequest) -> int:
    """Count a try of the caller's address; return how long it must wait, 0 when it may try.

    Each web process counts for itself. The address is the connection's, which the server has
    replaced by a trusted proxy's word: the header itself is whatever the caller writes into it.
    """
    window, passed = divmod(int(time.time()), WINDOW_SECONDS)
    key = f"sign-in:{window}:{request.META.get('REMOTE_ADDR', '')}"
    cache.add(key, 0, timeout=2 * WINDOW_SECONDS)
    return 0 if cache.incr(key) <= TRIES_PER_WINDOW else WINDOW_SECONDS - passed
