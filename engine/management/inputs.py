"""What was typed becomes an automation's input: `k=v` by the input's schema, `k=path` as a file."""

from __future__ import annotations

import json
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from pydantic import TypeAdapter, ValidationError

from engine import artifacts

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence

    from pydantic.fields import FieldInfo

    from engine.registry import AutomationDeclaration


def add_arguments(parser: ArgumentParser) -> None:
    """Add `--input KEY=VALUE` and `--file KEY=PATH`, as `collect` takes them."""
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        type=pair,
        metavar="KEY=VALUE",
        help="a field of the input; lists and objects as JSON (may be repeated)",
    )
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        type=pair,
        metavar="KEY=PATH",
        help="a file for a field of the input (may be repeated)",
    )


def pair(text: str) -> tuple[str, str]:
    """Split `key=value` (an argparse type)."""
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise CommandError(f"{text!r} must read KEY=VALUE.")
    return key.strip(), value


def field(declared: AutomationDeclaration, name: str) -> FieldInfo:
    """Return a field of the automation's input, or say which there are."""
    fields = declared.input.model_fields
    if name not in fields:
        raise CommandError(
            f"{declared.name} has no input field {name!r}; its fields: {described(declared)}."
        )
    return fields[name]


def described(declared: AutomationDeclaration) -> str:
    """Return the fields of the automation's input with their types, for a message."""
    schema = declared.input_schema
    required = set(schema.get("required", []))
    texts = [
        f"{name} ({_type(info)}{', required' if name in required else ''})"
        for name, info in schema.get("properties", {}).items()
    ]
    return ", ".join(texts) or "none, it takes no input"


def _type(info: dict[str, Any]) -> str:
    options = [option for option in info.get("anyOf", [info]) if option.get("type") != "null"]
    words = [
        option.get("$ref", "").rpartition("/")[2].replace("ArtifactRef", "file")
        or " | ".join(map(str, option.get("enum", [])))
        or option.get("format")
        or option.get("type")
        or "anything"
        for option in options
    ]
    return " or ".join(dict.fromkeys(words))


def value(declared: AutomationDeclaration, name: str, text: str) -> Any:
    """Return the JSON value of what was typed for a field.

    Text the field's type takes as it is stays text or becomes its number, date, ...; else it is
    read as JSON (lists, objects, null). What fits neither way is left for the input's validation,
    which names field and reason.
    """
    info = field(declared, name)
    adapter: TypeAdapter[Any] = TypeAdapter(info.annotation or Any)
    try:
        as_json = json.loads(text)
    except (ValueError, RecursionError):
        as_json = text
    tries = [as_json, text] if info.annotation is Any else [text, as_json]
    for attempt in tries:
        try:
            return adapter.dump_python(adapter.validate_python(attempt), mode="json")
        except ValidationError:
            continue
    return text


def stored_file(declared: AutomationDeclaration, name: str, path: str, *, actor: str) -> Any:
    """Store a local file and return the reference to it, as the field takes it."""
    field(declared, name)
    source = Path(path).expanduser()
    if not source.is_file():
        what = "is not a file" if source.exists() else "does not exist"
        raise CommandError(f"{name}: {path} {what}.")
    media_type = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
    try:
        with source.open("rb") as content:
            reference = artifacts.store(
                name=source.name, content=content, media_type=media_type, created_by=actor
            )
    except OSError as exc:
        raise CommandError(f"{name}: {path} cannot be read: {exc.strerror}.") from exc
    return reference.model_dump(mode="json")


def collect(
    declared: AutomationDeclaration,
    *,
    values: Sequence[tuple[str, str]],
    files: Sequence[tuple[str, str]],
    actor: str,
) -> dict[str, Any]:
    """Return the input; names are checked before any file is stored."""
    names = [name for name, _ in [*values, *files]]
    for name in names:
        field(declared, name)
        if names.count(name) > 1:
            raise CommandError(f"{name} is given {names.count(name)} times; give it once.")
    return {name: value(declared, name, text) for name, text in values} | {
        name: stored_file(declared, name, path, actor=actor) for name, path in files
    }
