"""Everything the code declares: departments, steps, automations; and what was wrong with it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter

from engine.errors import GraphInvalidError, UnknownAutomationError
from engine.policies import PLANNING, UNKNOWN_STEP, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.graph import Graph

RESERVED_SLUGS = frozenset({"orchestrator", "dead_letter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartmentDeclaration:
    """A department as declared in the catalog; its slug names its queue and its lane."""

    slug: str
    title: str
    purpose: str = ""
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class StepDeclaration:
    """A step's implementation with its policies. Seconds throughout."""

    name: str
    function: Callable[..., Any]
    limits: Limits
    where: str
    parameters: dict[str, inspect.Parameter] = field(repr=False)
    annotations: dict[str, Any] = field(repr=False)
    result: Any = None
    adapters: dict[str, TypeAdapter[Any]] = field(default_factory=dict, repr=False)
    result_adapter: TypeAdapter[Any] = field(default_factory=lambda: TypeAdapter(Any), repr=False)


@dataclass(frozen=True, kw_only=True)
class AutomationDeclaration:
    """An automation as declared: its name, its input model, its graph."""

    name: str
    title: str
    description: str
    department: str
    input: type[BaseModel]
    graph: Graph
    where: str

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the input."""
        return self.input.model_json_schema()

    @cached_property
    def checksum(self) -> str:
        """Return the identity of the version this code declares."""
        return self.graph.checksum(input_schema=self.input_schema)


departments: dict[str, DepartmentDeclaration] = {}
steps: dict[str, StepDeclaration] = {}
automations: dict[str, AutomationDeclaration] = {}
#: What could not be loaded: shown by `manage.py check` (engine.E001), file and step named.
problems: list[str] = []


def location(function: Callable[..., Any]) -> str:
    """Return `file:line` of a declaration, relative to the working directory where possible."""
    code = inspect.unwrap(function).__code__
    path = Path(code.co_filename)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}:{code.co_firstlineno}"


def department_of(module: str) -> str:
    """Return the department slug a catalog module belongs to: the part after `catalog`."""
    parts = module.split(".")
    if "catalog" in parts[:-1]:
        return parts[parts.index("catalog") + 1]
    return parts[-1]


def hints(function: Callable[..., Any], *, where: str) -> dict[str, Any]:
    """Return resolved annotations; an unknown name is a graph error with its place."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as exc:
        raise GraphInvalidError(
            f"{where}: annotation of {function.__name__!r} names {exc.name!r}, which is unknown at "
            "run time (imported only for type checking?)"
        ) from exc


def add_department(declared: DepartmentDeclaration) -> DepartmentDeclaration:
    """Register a department; a second declaration of the slug or a reserved one is refused."""
    if declared.slug in RESERVED_SLUGS or not declared.slug.replace("_", "").isalnum():
        raise GraphInvalidError(f"{declared.where}: {declared.slug!r} cannot name a department")
    _add(departments, declared.slug, declared, what="department")
    return declared


def add_step(declared: StepDeclaration) -> StepDeclaration:
    """Register a step; a second one of the same name is refused."""
    _add(steps, declared.name, declared, what="step")
    return declared


def add_automation(declared: AutomationDeclaration) -> AutomationDeclaration:
    """Register an automation; a second one of the same name is refused."""
    _add(automations, declared.name, declared, what="automation")
    return declared


def _add(kind: dict[str, Any], name: str, declared: Any, *, what: str) -> None:
    there = kind.get(name)
    # The same place twice is a module imported again under another name (reload): last one wins.
    if there is not None and there.where != declared.where:
        raise GraphInvalidError(
            f"{declared.where}: the {what} {name!r} is already declared at {there.where}"
        )
    kind[name] = declared


def automation(name: str) -> AutomationDeclaration:
    """Return an automation by name, or say which exist."""
    try:
        return automations[name]
    except KeyError:
        known = ", ".join(sorted(automations)) or "none"
        raise UnknownAutomationError(
            f"There is no automation {name!r}. Known: {known}.", name=name
        ) from None


def limits(*, kind: str, step: str) -> Limits:
    """Return the limits of a StepRun's attempts; patient ones when this code lacks the step."""
    if kind == "map":
        return Limits(retry=PLANNING)
    declared = steps.get(step)
    return Limits(retry=UNKNOWN_STEP) if declared is None else declared.limits


def load(packages: Iterable[str]) -> None:
    """Import every module of the catalog packages; what fails is noted in `problems`."""
    problems.clear()
    for package in packages:
        for module in [package, *_modules_below(package)]:
            try:
                importlib.import_module(module)
            except GraphInvalidError as exc:
                problems.append(exc.message)
            except Exception as exc:  # noqa: BLE001 - any error of a catalog file is that file's
                problems.append(f"{module}: {type(exc).__name__}: {exc}")
    problems.extend(
        f"{declared.where}: automation {declared.name!r} names the department "
        f"{declared.department!r}, which no catalog file declares"
        for declared in automations.values()
        if declared.department not in departments
    )


def _modules_below(package: str) -> list[str]:
    try:
        parent = importlib.import_module(package)
    except ImportError:
        return []
    paths = getattr(parent, "__path__", None)
    if paths is None:
        return []
    return sorted(
        info.name
        for info in pkgutil.walk_packages(paths, prefix=f"{package}.", onerror=lambda _name: None)
    )
