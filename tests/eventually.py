"""Wait for a condition with a deadline: the only waiting that tests do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
POLL_SECONDS = 0.05


def eventually(condition: Callable[[], T], *, within: float, what: str = "") -> T:
    """Return the first truthy value of `condition`; fail after `within` seconds with the last."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or condition} (last: {value!r})")
        time.sleep(POLL_SECONDS)
