"""Random automations: small graphs of every shape, with maps in any place."""

from __future__ import annotations

from hypothesis import strategies as st
from pydantic import BaseModel

from engine.graph import Binding, Graph, Node
from engine.registry import AutomationDeclaration

MAX_NODES = 5


class NoInput(BaseModel):
    """Nothing: the machine decides what every step does."""


def taken(parents: list[int]) -> dict[str, Binding]:
    """Return arguments that take the outputs of these nodes."""
    return {f"p{n}": Binding(source="node", key=f"n{n}") for n in parents}


@st.composite
def graphs(draw) -> Graph:
    """Draw a graph: each node waits for some of those before it, and may be mapped over one."""
    nodes: list[Node] = []
    for n in range(draw(st.integers(1, MAX_NODES))):
        parents = draw(st.lists(st.sampled_from(range(n)), unique=True)) if n else []
        arguments = taken(parents)
        mapped = draw(st.booleans())
        # A root has nothing to be mapped over but a constant.
        over = {"item": Binding(source="const", value=[])} if mapped and not parents else {}
        if mapped and parents:
            over = {"item": arguments.pop(f"p{parents[0]}")}
        nodes.append(Node(key=f"n{n}", step="lab.model", args=arguments, over=over))
    found = Graph(nodes=tuple(nodes), output=None, on_dead=draw(st.sampled_from(["block", "fail"])))
    found.validate(where="model")
    return found


def declared(graph: Graph) -> AutomationDeclaration:
    """Return the automation that a run of this graph is submitted by."""
    return AutomationDeclaration(
        name="lab.model",
        title="Model",
        description="",
        department="lab",
        input=NoInput,
        graph=graph,
        where="tests/integration/model",
    )
