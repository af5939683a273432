"""Automations of random shape: chains, diamonds, fan-ins, maps of nothing and of something."""

from __future__ import annotations

from typing import Any

from django.db import connection
from hypothesis import strategies as st
from pydantic import BaseModel

from engine.authoring import Retry, StepContext, step
from engine.graph import Binding, Graph, Node
from engine.registry import AutomationDeclaration
from tests.model.script import Script

DEPARTMENT = "model"
MAX_NODES, MAX_PARENTS, MAX_ITEMS = 5, 3, 3
#: Its backoff never runs out by itself: time passes when the machine says so.
TWICE = Retry(attempts=2, first_delay=3600.0, max_delay=3600.0, jitter=0.0)


class Nothing(BaseModel):
    """The input of every automation here."""


def pure(
    ctx: StepContext, *, size: int, p0: Any = None, p1: Any = None, p2: Any = None, item: Any = None
) -> list[int]:
    Script.play()
    return list(range(size))


def book(
    ctx: StepContext, *, size: int, p0: Any = None, p1: Any = None, p2: Any = None, item: Any = None
) -> list[int]:
    """Write a row in the completion transaction; what goes wrong goes wrong after it."""
    with ctx.transaction():
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO model_ledger (run_id, step, map_index) VALUES (%s, %s, %s)",
                [ctx.run_id, ctx.step, -1 if ctx.map_index is None else ctx.map_index],
            )
        Script.play()
    return list(range(size))


def declare_steps() -> None:
    """Add the two steps to the registry."""
    for function in (pure, book):
        step(retry=TWICE, name=f"{DEPARTMENT}.{function.__name__}")(function)


@st.composite
def graphs(draw) -> Graph:
    """Draw a graph whose nodes take the outputs of some of the nodes before them."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, MAX_NODES))):
        before = [node.key for node in nodes]
        parents = (
            draw(st.lists(st.sampled_from(before), max_size=MAX_PARENTS, unique=True))
            if before
            else []
        )
        mapped = draw(st.booleans()) if parents else False
        over = {"item": Binding(source="node", key=parents.pop())} if mapped else {}
        args = {f"p{n}": Binding(source="node", key=key) for n, key in enumerate(parents)}
        args["size"] = Binding(source="const", value=draw(st.integers(0, MAX_ITEMS)))
        kind = draw(st.sampled_from(["pure", "book"]))
        nodes.append(Node(key=f"n{number}", step=f"{DEPARTMENT}.{kind}", args=args, over=over))
    on_dead = draw(st.sampled_from(["block", "fail"]))
    return Graph(nodes=tuple(nodes), output=None, on_dead=on_dead)


def chain(kind: str) -> Graph:
    """Return three steps, each after the other: what a worker goes on with."""
    size = Binding(source="const", value=1)
    nodes = [Node(key="n0", step=f"{DEPARTMENT}.{kind}", args={"size": size}, over={})]
    for number in (1, 2):
        args = {"p0": Binding(source="node", key=f"n{number - 1}"), "size": size}
        nodes.append(Node(key=f"n{number}", step=f"{DEPARTMENT}.{kind}", args=args, over={}))
    return Graph(nodes=tuple(nodes), output=None, on_dead="block")


def automation(graph: Graph) -> AutomationDeclaration:
    """Return the declaration of a graph, named after its content."""
    name = f"{DEPARTMENT}.{graph.checksum(input_schema={})[:16]}"
    return AutomationDeclaration(
        name=name,
        title=name,
        description="",
        department=DEPARTMENT,
        input=Nothing,
        graph=graph,
        where="tests/model/graphs.py:1",
    )
