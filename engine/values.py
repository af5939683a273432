"""Values between steps: small ones inline, large ones by reference to their stored JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def loaded(*, value: Any, ref: dict[str, Any] | None, read: Callable[[str], bytes]) -> Any:
    """Return a stored output: `ref` names the content that holds it, else it is `value`."""
    return json.loads(read(ref["sha256"])) if ref else value


def follow(value: Any, path: tuple[str, ...]) -> Any:
    """Return the field of a JSON value that a dotted reference of the graph names."""
    for name in path:
        value = value[name]
    return value
