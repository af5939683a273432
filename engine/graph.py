"""The graph of an automation as a plain value: what is called with what, and what follows what."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from engine.errors import GraphInvalidError

#: Index of a StepRun that is not an item of a map.
UNMAPPED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Say where an argument comes from: the run's input, another node's output, or a constant."""

    source: Literal["input", "node", "const"]
    key: str = ""
    path: tuple[str, ...] = ()
    value: Any = None

    @classmethod
    def load(cls, data: dict[str, Any]) -> Self:
        """Rebuild a binding from its stored form."""
        return cls(**{**data, "path": tuple(data.get("path", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One step in the graph. A node with `over` is mapped: one StepRun per item of those lists."""

    key: str
    step: str
    args: dict[str, Binding] = field(default_factory=dict)
    over: dict[str, Binding] = field(default_factory=dict)

    @property
    def mapped(self) -> bool:
        """Whether the node fans out."""
        return bool(self.over)

    @property
    def parents(self) -> list[str]:
        """Keys of the nodes whose outputs this one takes, each once, in order of appearance."""
        bindings = [*self.args.values(), *self.over.values()]
        return list(dict.fromkeys(b.key for b in bindings if b.source == "node"))


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An immutable directed acyclic graph of nodes, in an order in which parents come first."""

    nodes: tuple[Node, ...]
    #: Key of the node whose output is the run's output; None when the automation returns nothing.
    output: str | None
    on_dead: str = "block"

    @cached_property
    def by_key(self) -> dict[str, Node]:
        """Return the nodes by key."""
        return {node.key: node for node in self.nodes}

    @cached_property
    def successors(self) -> dict[str, list[str]]:
        """Return for each key the keys of the nodes that wait for it."""
        following: dict[str, list[str]] = {node.key: [] for node in self.nodes}
        for node in self.nodes:
            for parent in node.parents:
                following[parent].append(node.key)
        return following

    @cached_property
    def sinks(self) -> list[str]:
        """Return the keys nobody waits for: the run ends when they all have ended."""
        return [key for key, following in self.successors.items() if not following]

    def downstream(self, key: str) -> set[str]:
        """Return every key that cannot start before `key` has ended."""
        found: set[str] = set()
        frontier = [key]
        while frontier:
            fresh = [k for k in self.successors[frontier.pop()] if k not in found]
            found.update(fresh)
            frontier.extend(fresh)
        return found

    def validate(self, *, where: str) -> None:
        """Refuse an empty graph, dangling names, doubled keys and cycles, naming the step."""
        if not self.nodes:
            raise GraphInvalidError(f"{where}: the automation calls no step")
        keys = [node.key for node in self.nodes]
        for key in keys:
            if keys.count(key) > 1:
                raise GraphInvalidError(f"{where}: two nodes are called {key!r}")
        for node in self.nodes:
            for parent in node.parents:
                if parent not in self.by_key:
                    raise GraphInvalidError(
                        f"{where}: step {node.key!r} takes the output of {parent!r}, "
                        "which is not in the graph"
                    )
        if self.output is not None and self.output not in self.by_key:
            raise GraphInvalidError(f"{where}: the output {self.output!r} is not in the graph")
        self._topological(where=where)

    def _topological(self, *, where: str) -> list[Node]:
        waiting = {node.key: len(node.parents) for node in self.nodes}
        free = [key for key, count in waiting.items() if count == 0]
        order: list[Node] = []
        while free:
            key = free.pop(0)
            order.append(self.by_key[key])
            for successor in self.successors[key]:
                waiting[successor] -= 1
                if waiting[successor] == 0:
                    free.append(successor)
        if len(order) < len(self.nodes):
            stuck = sorted(set(self.by_key) - {node.key for node in order})
            raise GraphInvalidError(f"{where}: steps wait for each other in a circle: {stuck}")
        return order

    @cached_property
    def topological(self) -> list[Node]:
        """Return the nodes, every parent before its successors."""
        return self._topological(where="graph")

    def dump(self) -> dict[str, Any]:
        """Return the JSON form: what an AutomationVersion stores."""
        return json.loads(json.dumps(asdict(self), default=str))  # type: ignore[no-any-return]

    @classmethod
    def load(cls, data: dict[str, Any]) -> Self:
        """Rebuild a graph from its JSON form."""
        nodes = tuple(
            Node(
                key=node["key"],
                step=node["step"],
                args={name: Binding.load(b) for name, b in node["args"].items()},
                over={name: Binding.load(b) for name, b in node["over"].items()},
            )
            for node in data["nodes"]
        )
        return cls(nodes=nodes, output=data["output"], on_dead=data["on_dead"])

    def checksum(self, *, input_schema: dict[str, Any]) -> str:
        """Return the identity of this version: SHA-256 over graph and input schema."""
        canonical = json.dumps([self.dump(), input_schema], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
