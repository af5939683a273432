"""What a step takes and gives: arguments out of its parents' outputs, its result back as JSON."""

from __future__ import annotations

import copy
import json
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from engine import artifacts, definitions, sql
from engine.errors import NotFoundError, StepError
from engine.graph import UNMAPPED
from engine.values import follow, holds_nul, loaded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from engine.graph import Binding, Node
    from engine.registry import StepDeclaration
    from engine.transitions.claims import Claimed

INPUTS = """
SELECT s.key, s.map_index, s.kind, o.value, o.ref
FROM engine_steprun s JOIN engine_stepoutput o ON o.step_run_id = s.id
WHERE s.run_id = %(run)s AND s.key = ANY(%(keys)s)
UNION ALL
SELECT NULL, 0, NULL, value, NULL FROM engine_stepinput WHERE step_run_id = %(id)s
ORDER BY 2
"""
ITEMS = "SELECT step_run_id, value FROM engine_stepinput WHERE step_run_id = ANY(%(ids)s)"
#: Items a map may have; beyond it a list is better processed in parts.
MAX_ITEMS = 100_000
#: More digits in a row than Python reads as a number.
_TOO_MANY_DIGITS = re.compile(rf"[0-9]{{{sys.int_info.default_max_str_digits + 1}}}")


@dataclass(slots=True)
class Known:
    """JSON texts that are not read again: steps of one chunk take much the same."""

    #: (run, key) -> the result of a step that is no item: a key would stand for one of many.
    results: dict[tuple[UUID, str], str] = field(default_factory=dict)
    #: StepRun -> the item of a map it works on.
    items: dict[int, str] = field(default_factory=dict)

    def read_items(self, steps: Iterable[Claimed]) -> None:
        """Read the items of these steps, in one go."""
        ids = [step.id for step in steps if step.map_index != UNMAPPED]
        if ids:
            self.items.update((row.step_run_id, row.value) for row in sql.rows(ITEMS, {"ids": ids}))


def arguments(
    step: Claimed, node: Node, declared: StepDeclaration, *, known: Known | None = None
) -> dict[str, Any]:
    """Return the validated arguments of a claimed step; StepError names one that does not fit.

    known: what need not be read again; what is read here and others may take is added to it.
    """
    outputs, item = _outputs(step, node, known or Known())
    plain = {name: _value(binding, step, outputs) for name, binding in node.args.items()}
    plain.update(item)
    found = {}
    for name, value in plain.items():
        try:
            # Models were stored by their fields' names, whatever their aliases outside.
            found[name] = declared.adapters[name].validate_python(value, by_name=True)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join([name, *map(str, first["loc"])])
            raise StepError(
                "argument_invalid", f"{node.key}: {where}: {first['msg']}", permanent=True
            ) from exc
    return found


def items(step: Claimed, node: Node) -> list[str]:
    """Zip the lists a node is mapped over into one {parameter: value} per item, as JSON."""
    outputs, _ = _outputs(step, node, Known())
    lists = {name: _value(binding, step, outputs) for name, binding in node.over.items()}
    for name, values in lists.items():
        if not isinstance(values, list):
            message = f"{node.key}: {name} is mapped over something that is not a list."
            raise StepError("map_over_no_list", message, permanent=True)
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        message = f"{node.key}: the lists to map over differ in length: {lengths}."
        raise StepError("map_lengths_differ", message, permanent=True)
    size = next(iter(lengths.values()))
    if size > MAX_ITEMS:
        message = f"{node.key}: {size} items; a map takes at most {MAX_ITEMS}."
        raise StepError("map_too_wide", message, permanent=True)
    return [json.dumps({name: values[n] for name, values in lists.items()}) for n in range(size)]


def stored(declared: StepDeclaration, result: Any) -> tuple[str | None, dict[str, Any] | None]:
    """Return the result as JSON text, or as the reference of its content when it is large."""
    try:
        checked = declared.result_adapter.validate_python(result)
        encoded = declared.result_adapter.dump_json(checked)
    except (ValidationError, PydanticSerializationError) as exc:
        raise StepError(
            "result_invalid",
            f"{declared.name} returned something that does not fit its return annotation.",
            permanent=True,
        ) from exc
    if b"null" in encoded:
        _refuse_infinite(declared, checked)
    text: str = encoded.decode()
    if holds_nul(text):
        raise StepError(
            "result_invalid", f"{declared.name} returned a NUL character.", permanent=True
        )
    _refuse_unreadable(declared, text)
    if len(encoded) <= settings.INLINE_VALUE_BYTES:
        return text, None
    ref = artifacts.put(
        name=f"{declared.name}.json", content=encoded, media_type="application/json"
    )
    return None, ref.model_dump()


def _outputs(step: Claimed, node: Node, known: Known) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the outputs it takes by key (lists for mapped parents) and the item of a map.

    A planner takes the lists to map over, an item only what is the same for all: were it to read
    the lists as well, a map of n items would read n times n of them.
    """
    taken = node.over if step.kind == "map" else node.args
    keys = list(dict.fromkeys(b.key for b in taken.values() if b.source == "node"))
    unread = [key for key in keys if (step.run_id, key) not in known.results]
    item = json.loads(known.items.pop(step.id)) if step.id in known.items else None
    outputs: dict[str, Any] = {}
    if unread or (item is None and step.map_index != UNMAPPED):
        graph = definitions.graph(step.version_id)
        outputs = {key: [] if graph.by_key[key].mapped else None for key in unread}
        for row in sql.rows(INPUTS, {"run": step.run_id, "keys": unread, "id": step.id}):
            value = loaded(value=sql.parsed(row.value), ref=sql.parsed(row.ref), read=_read)
            if row.key is None:
                item = value
            elif row.map_index != UNMAPPED:
                outputs[row.key].append(value)
            elif row.kind == "step":
                outputs[row.key] = value
                if row.ref is None and row.value is not None:
                    known.results[step.run_id, row.key] = row.value
    for key in keys:
        if key not in outputs:
            outputs[key] = json.loads(known.results[step.run_id, key])
    return outputs, item or {}


def _value(binding: Binding, step: Claimed, outputs: dict[str, Any]) -> Any:
    if binding.source == "node":
        return follow(outputs[binding.key], binding.path)
    if binding.source == "input":
        return follow(json.loads(step.input), binding.path)
    # What a step does to its arguments is its own: the next one here is given the same constant.
    return copy.deepcopy(binding.value)


def _refuse_infinite(declared: StepDeclaration, checked: Any) -> None:
    """Refuse a result with a number that JSON does not have: it would silently become null."""
    try:
        json.dumps(declared.result_adapter.dump_python(checked, mode="json"), allow_nan=False)
    except ValueError as exc:
        raise StepError(
            "result_invalid",
            f"{declared.name} returned a number that is not finite.",
            permanent=True,
        ) from exc


def _refuse_unreadable(declared: StepDeclaration, text: str) -> None:
    """Refuse a result with a number that the step after it could not read."""
    if _TOO_MANY_DIGITS.search(text) is None:
        return
    try:
        json.loads(text)
    except ValueError as exc:
        raise StepError(
            "result_invalid",
            f"{declared.name} returned a number of too many digits.",
            permanent=True,
        ) from exc


def _read(sha256: str) -> bytes:
    try:
        with artifacts.open_content(sha256=sha256) as file:
            return file.read()
    except NotFoundError as exc:
        raise StepError("artifact_gone", exc.message, permanent=True) from exc
