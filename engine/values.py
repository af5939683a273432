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


def storable(text: str) -> str:
    """Return the text without what PostgreSQL cannot store: NUL and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can store the text as it is."""
    return storable(text) == text


def plain_json(value: Any) -> Any:
    """Return a JSON value that PostgreSQL can store, whatever a step left as a remark."""
    encoded = json.dumps(value, default=str).replace("\\u0000", "")
    return json.loads(
        storable(json.dumps(json.loads(encoded), ensure_ascii=False)),
        parse_constant=lambda _word: None,
    )
