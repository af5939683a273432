"""What an author of automations imports (DESIGN §5).

The decorated automation function is called once, at import, with symbols in place of values; the
calls it makes become the graph. Errors name file, line and step.
"""

from __future__ import annotations

import inspect
import types
import typing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, overload

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter

from engine import registry
from engine.contracts import ArtifactRef, StepContext
from engine.errors import GraphInvalidError, NotSentError, StepError
from engine.graph import Binding, Graph, Node
from engine.policies import (
    DEFAULT_TIMEOUT_SECONDS,
    MAX_TIMEOUT_SECONDS,
    Limits,
    OnDead,
    Retry,
)
from engine.registry import AutomationDeclaration, DepartmentDeclaration, StepDeclaration

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ArtifactRef",
    "NotSentError",
    "Retry",
    "StepContext",
    "StepError",
    "automation",
    "department",
    "step",
]


def department(slug: str, *, title: str, purpose: str = "") -> DepartmentDeclaration:
    """Declare a department: its slug names its queue. Once, in one file of its catalog folder."""
    frame = inspect.currentframe()
    caller = frame.f_back if frame else None
    where = f"{caller.f_code.co_filename}:{caller.f_lineno}" if caller else ""
    declared = DepartmentDeclaration(slug=slug, title=title, purpose=purpose, where=where)
    return registry.add_department(declared)


class _Symbol:
    """Stand for a value that exists only when the run does; remembers where it will come from."""

    def __init__(self, binding: Binding, annotation: Any) -> None:
        self.symbol_binding = binding
        self.symbol_annotation = annotation

    def __getattr__(self, name: str) -> _Symbol:
        if name.startswith("_"):
            raise AttributeError(name)
        binding = self.symbol_binding
        field = _field(self.symbol_annotation, name)
        if field is None:
            what = "the input" if binding.source == "input" else f"the output of {binding.key!r}"
            raise GraphInvalidError(f"{_where()}: {what} has no field {name!r}")
        return _Symbol(
            Binding(source=binding.source, key=binding.key, path=(*binding.path, name)), field
        )

    def __eq__(self, other: object) -> typing.NoReturn:
        raise GraphInvalidError(
            f"{_where()}: a value of a future run cannot be compared here; decide inside a step"
        )

    __ne__ = __eq__
    __hash__ = object.__hash__

    def __str__(self) -> typing.NoReturn:
        raise GraphInvalidError(
            f"{_where()}: a value of a future run has no text yet; put texts together inside a step"
        )

    def __iter__(self) -> typing.NoReturn:
        raise GraphInvalidError(
            f"{_where()}: a value of a future run cannot be looped over here; use .map(...)"
        )

    def __bool__(self) -> typing.NoReturn:
        raise GraphInvalidError(
            f"{_where()}: a value of a future run cannot be tested here; decide inside a step"
        )


class _Builder:
    """Collect the nodes while an automation function is called with symbols."""

    def __init__(self, *, where: str) -> None:
        self.where = where
        self.nodes: list[Node] = []

    def add(self, step: Step, args: dict[str, Any], over: dict[str, Any]) -> _Symbol:
        declared = step.declared
        short = declared.name.rpartition(".")[2]
        taken = {node.key for node in self.nodes}
        key = short
        number = 2
        while key in taken:
            key = f"{short}_{number}"
            number += 1
        place = f"{self.where}: step {key!r}"
        _check_names(place, declared, {*args, *over})
        doubled = sorted(set(args) & set(over))
        if doubled:
            raise GraphInvalidError(f"{place} is given {doubled} for all items and for each")
        node = Node(
            key=key,
            step=declared.name,
            args={n: _bind(place, declared, n, v) for n, v in args.items()},
            over={n: _bind(place, declared, n, v, item=True) for n, v in over.items()},
        )
        self.nodes.append(node)
        result = list[declared.result] if over else declared.result  # type: ignore[name-defined]
        return _Symbol(Binding(source="node", key=key), result)


_building: ContextVar[_Builder | None] = ContextVar("building", default=None)


def _where() -> str:
    builder = _building.get()
    return builder.where if builder else "graph"


class Step:
    """A declared step. Called inside an automation it becomes a node of the graph."""

    def __init__(self, declared: StepDeclaration, partial: dict[str, Any] | None = None) -> None:
        self.declared = declared
        self._partial = partial or {}

    def _builder(self) -> _Builder:
        builder = _building.get()
        if builder is None:
            raise GraphInvalidError(
                f"{self.declared.where}: step {self.declared.name!r} was called outside an "
                "automation; to try its body use .declared.function(ctx, ...)"
            )
        return builder

    def __call__(self, *positional: Any, **arguments: Any) -> Any:
        """Add a node; arguments are symbols or JSON constants, by name."""
        builder = self._builder()
        if positional:
            raise GraphInvalidError(
                f"{builder.where}: step {self.declared.name!r} takes its arguments by name"
            )
        return builder.add(self, {**self._partial, **arguments}, {})

    def partial(self, **arguments: Any) -> Step:
        """Give every item of a later `.map` these same arguments."""
        return Step(self.declared, {**self._partial, **arguments})

    def map(self, **lists: Any) -> Any:
        """Fan out: one StepRun per item; several lists are zipped and must be of one length."""
        builder = self._builder()
        if not lists:
            raise GraphInvalidError(
                f"{builder.where}: step {self.declared.name!r}.map() needs a list to map over"
            )
        return builder.add(self, self._partial, lists)


@overload
def step(function: Callable[..., Any], /) -> Step: ...
@overload
def step(
    *,
    retry: Retry | None = None,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    progress_within: float | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Step]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retry: Retry | None = None,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    progress_within: float | None = None,
    name: str | None = None,
) -> Step | Callable[[Callable[..., Any]], Step]:
    """Declare a step: `f(ctx, **typed) -> typed`.

    retry: how often it is tried (default 3 attempts). timeout: seconds one attempt may take.
    progress_within: the longest time in seconds between two calls of `ctx.checkpoint` or
    `ctx.progress`; a step that hangs for longer fails with `no_progress` and is tried again.
    name: `<department>.<word>`; by default the department of the file and the function's name.
    """

    def declare(function: Callable[..., Any]) -> Step:
        where = registry.location(function)
        for name_of, seconds in (("timeout", timeout), ("progress_within", progress_within)):
            if seconds is not None and not 0 < seconds <= MAX_TIMEOUT_SECONDS:
                raise GraphInvalidError(
                    f"{where}: {name_of} must be above 0 seconds and at most a year"
                )
        full = name or f"{registry.department_of(function.__module__)}.{function.__name__}"
        parameters = _parameters(function, place=f"{where}: step {full!r}")
        found = registry.hints(function, where=where)
        annotations = {p: found.get(p, Any) for p in parameters}
        result = found.get("return", Any)
        try:
            adapters = {p: TypeAdapter(a) for p, a in annotations.items()}
            result_adapter: TypeAdapter[Any] = TypeAdapter(result)
        except PydanticSchemaGenerationError as exc:
            raise GraphInvalidError(f"{where}: step {full!r}: {exc.message}") from exc
        return Step(
            registry.add_step(
                StepDeclaration(
                    name=full,
                    function=function,
                    limits=Limits(
                        retry=retry or Retry(), timeout=timeout, progress_within=progress_within
                    ),
                    where=where,
                    parameters=parameters,
                    annotations=annotations,
                    result=result,
                    adapters=adapters,
                    result_adapter=result_adapter,
                )
            )
        )

    return declare(function) if function is not None else declare


def automation(
    name: str,
    *,
    title: str,
    input: type[BaseModel],  # noqa: A002 - the author's word
    on_dead: str = "block",
) -> Callable[[Callable[[Any], Any]], AutomationDeclaration]:
    """Declare an automation `<department>.<word>`; the function is called once, with symbols.

    on_dead: what a dead-lettered step does to the run: `block` (wait for an operator) or `fail`.
    """

    def declare(function: Callable[[Any], Any]) -> AutomationDeclaration:
        where = registry.location(function)
        slug, dot, word = name.partition(".")
        if not (slug and dot and word):
            raise GraphInvalidError(f"{where}: {name!r} must read <department>.<automation>")
        if on_dead not in set(OnDead):
            raise GraphInvalidError(f"{where}: on_dead must be 'block' or 'fail', not {on_dead!r}")
        builder = _Builder(where=f"{where}: automation {name!r}")
        token = _building.set(builder)
        try:
            returned = function(_Symbol(Binding(source="input"), input))
        finally:
            _building.reset(token)
        output = None
        if returned is not None:
            if not isinstance(returned, _Symbol) or returned.symbol_binding.source != "node":
                raise GraphInvalidError(f"{builder.where}: must return a step's result or nothing")
            if returned.symbol_binding.path:
                raise GraphInvalidError(f"{builder.where}: must return a whole step's result")
            output = returned.symbol_binding.key
        graph = Graph(nodes=tuple(builder.nodes), output=output, on_dead=on_dead)
        graph.validate(where=builder.where)
        return registry.add_automation(
            AutomationDeclaration(
                name=name,
                title=title,
                description=inspect.cleandoc(function.__doc__ or ""),
                department=slug,
                input=input,
                graph=graph,
                where=where,
            )
        )

    return declare


def _parameters(function: Callable[..., Any], *, place: str) -> dict[str, inspect.Parameter]:
    """Return what a step takes besides ctx; refuse a function that no run could ever call."""
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise GraphInvalidError(f"{place} must be a plain function: no `async def`, no `yield`")
    kinds = inspect.Parameter
    found = list(inspect.signature(function).parameters.values())
    if not found or found[0].kind not in {kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD}:
        raise GraphInvalidError(f"{place} must take ctx as first parameter")
    others = found[1:]
    for other in others:
        if other.kind not in {kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY}:
            raise GraphInvalidError(
                f"{place}: {other} cannot be given by name; no `/`, no `*{other.name}`"
            )
    return {other.name: other for other in others}


def _check_names(place: str, declared: StepDeclaration, given: set[str]) -> None:
    known = declared.parameters
    unknown = given - set(known)
    if unknown:
        raise GraphInvalidError(f"{place} has no parameter {sorted(unknown)} ({declared.where})")
    missing = {n for n, p in known.items() if p.default is inspect.Parameter.empty} - given
    if missing:
        raise GraphInvalidError(f"{place} is called without {sorted(missing)} ({declared.where})")


def _bind(
    place: str, declared: StepDeclaration, name: str, value: Any, *, item: bool = False
) -> Binding:
    wanted = declared.annotations[name]
    if not isinstance(value, _Symbol):
        adapter = declared.adapters[name]
        if item:
            listed: Any = types.GenericAlias(list, (wanted,))
            adapter = TypeAdapter(listed)
        try:
            plain = adapter.dump_python(adapter.validate_python(value), mode="json")
        except ValueError as exc:
            raise GraphInvalidError(f"{place}: {name}={value!r} does not fit: {exc}") from exc
        return Binding(source="const", value=plain)
    offered = value.symbol_annotation
    if item:
        if typing.get_origin(offered) is not list and offered is not Any:
            raise GraphInvalidError(f"{place}: {name} is mapped over {offered!r}, which is no list")
        offered = (typing.get_args(offered) or (Any,))[0]
    if not _fits(offered, wanted):
        raise GraphInvalidError(f"{place}: {name} takes {wanted!r} and is given {offered!r}")
    return value.symbol_binding


def _field(annotation: Any, name: str) -> Any:
    if annotation is Any:
        return Any
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found = annotation.model_fields.get(name)
        return found.annotation if found else None
    return None


def _fits(offered: Any, wanted: Any) -> bool:  # noqa: PLR0911 - one answer a kind of type
    if Any in (offered, wanted) or offered == wanted:
        return True
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        options = typing.get_args(wanted)
        if typing.get_origin(offered) in (typing.Union, types.UnionType):
            return all(_fits(o, wanted) for o in typing.get_args(offered))
        return any(_fits(offered, option) for option in options)
    if typing.get_origin(wanted) is typing.Annotated:
        return _fits(offered, typing.get_args(wanted)[0])
    if typing.get_origin(offered) is typing.Annotated:
        return _fits(typing.get_args(offered)[0], wanted)
    origins = typing.get_origin(offered), typing.get_origin(wanted)
    if origins[0] is not None and origins[0] == origins[1]:
        pairs = zip(typing.get_args(offered), typing.get_args(wanted), strict=False)
        return all(_fits(o, w) for o, w in pairs)
    if isinstance(offered, type) and isinstance(wanted, type):
        return issubclass(offered, wanted)
    return False
