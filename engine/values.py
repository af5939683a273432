"""Values between steps: small ones inline, large ones by reference to their stored JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: A NUL as JSON spells it: behind an even number of backslashes; else it is a text about one.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def holds_nul(encoded: str) -> bool:
    """Tell whether a JSON text contains the character that PostgreSQL cannot store."""
    return _NUL.search(encoded) is not None


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
    encoded = _NUL.sub(r"\1", json.dumps(value, default=str))
    return json.loads(
        storable(json.dumps(json.loads(encoded), ensure_ascii=False)),
        parse_constant=lambda _word: None,
    )
