"""Every field that the code logs is on the allow-list, or its value would be hidden."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from config.logs import fields
from engine.transitions import claims

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("config", "orchestration", "departments", "engine")
SPEAKING = {"debug", "info", "warning", "error", "exception", "critical"}
BINDING = {"bind", "bind_contextvars", "bound_contextvars"}
#: What structlog and the standard library take for themselves.
OWN = {"exc_info", "stack_info", "stacklevel", "extra"}


def logged(source: str) -> set[str]:
    """Return the names of the fields that a module's calls of a logger carry."""
    found = set()
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        whose = ast.unparse(call.func.value)
        speaks = call.func.attr in SPEAKING and (
            whose in {"log", "logger"} or whose.endswith(".log")
        )
        binds = call.func.attr in BINDING and ("contextvars" in whose or "get_logger" in whose)
        if speaks or binds:
            found |= {word.arg for word in call.keywords if word.arg}
    return found - OWN


@pytest.mark.parametrize("room", ROOMS)
def test_fields__that_are_logged_are_listed(room):
    found = {}
    for path in (ROOT / room).rglob("*.py"):
        for name in logged(path.read_text()) - fields.SHOWN:
            found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert found == {}, "would be [hidden]: add names that hold no payload to config/logs/fields.py"


def test_fields__of_a_step_are_listed():
    words = {
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(claims)))
        if isinstance(node, ast.FunctionDef) and node.name == "logged"
        for node in ast.walk(node)
        if isinstance(node, ast.Constant)
    }
    assert {"run_id", "step", "step_id", "attempt", "correlation_id"} <= words
    assert {"run_id", "step", "step_id", "attempt", "correlation_id"} <= fields.SHOWN


@pytest.mark.parametrize(
    "source",
    [
        'log.info("x", customer=1)',
        'self.log.warning("x", customer=1)',
        'structlog.get_logger("step").bind(customer=1)',
        "structlog.contextvars.bind_contextvars(customer=1)",
    ],
)
def test_search__finds_a_field_in_every_kind_of_call(source):
    assert logged(source) == {"customer"}
