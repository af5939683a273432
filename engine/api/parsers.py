"""Bodies, read strictly: what PostgreSQL or JSON could not hold is refused here, with its place."""

from __future__ import annotations

import json
import math
from typing import IO, TYPE_CHECKING, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Deeper nesting than any input needs; bounds recursion everywhere behind.
MAX_DEPTH = 64


class BodyTooLarge(APIException):
    """Refuse a body above the limit."""

    status_code = 413
    default_code = "body_too_large"
    default_detail = "The body is too large."


class StrictJSONParser(BaseParser):
    """Parse UTF-8 JSON without NaN, NUL characters, lone surrogates or absurd depth."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        """Return the document; raises 400 with the reason, 413 when it is too large."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise BodyTooLarge(f"The body is larger than {limit} bytes; send files as multipart.")
        return strict_json(body)


def strict_json(body: bytes | str) -> Any:
    """Return the parsed document; raises ParseError saying what is wrong with it."""
    try:
        text = body if isinstance(body, str) else body.decode("utf-8-sig")
        document = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except RecursionError:
        raise ParseError("The JSON is nested too deeply.") from None
    except UnicodeDecodeError:
        raise ParseError("The body is not UTF-8.") from None
    except json.JSONDecodeError as exc:
        raise ParseError(
            f"The body is not valid JSON: {exc.msg}, line {exc.lineno}, column {exc.colno}."
        ) from None
    except ValueError as exc:
        raise ParseError(f"The body is not valid JSON: {exc}.") from None
    _check(document)
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name given twice: who checked the first would be shown another than who acts."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:100]!a} is given twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check(document: Any) -> None:
    """Walk the document without recursion; its strings must be storable, its numbers finite."""
    open_values: list[tuple[str, int, Any]] = [("", 0, document)]
    while open_values:
        pointer, depth, value = open_values.pop()
        if depth > MAX_DEPTH:
            raise ParseError(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(value, str):
            _check_text(value, pointer)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ParseError(f"{pointer or '/'}: the number is too large.")
        elif isinstance(value, list):
            open_values += [(f"{pointer}/{i}", depth + 1, item) for i, item in enumerate(value)]
        elif isinstance(value, dict):
            for key, item in value.items():
                _check_text(key, pointer)
                open_values.append((f"{pointer}/{key}", depth + 1, item))


def _check_text(text: str, pointer: str) -> None:
    if "\x00" in text:
        raise ParseError(f"{pointer or '/'}: contains a NUL character, which cannot be stored.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ParseError(
                "The JSON contains half of a surrogate pair, which is no character."
            ) from None
