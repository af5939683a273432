"""Authoring: the graph that a declaration yields, and the errors that name file and step."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from engine import registry
from engine.authoring import StepContext, automation, department, step
from engine.errors import GraphInvalidError
from engine.graph import Graph


class Order(BaseModel):
    lines: list[str]
    buyer: str = "nobody"


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch):
    for kind in ("departments", "steps", "automations"):
        monkeypatch.setattr(registry, kind, {})


@step(name="shop.price")
def price(ctx: StepContext, line: str, buyer: str) -> int:
    return len(line)


@step(name="shop.add")
def add(ctx: StepContext, prices: list[int]) -> int:
    return sum(prices)


@step(name="shop.ship")
def ship(ctx: StepContext, order: Order) -> str:
    return order.buyer


def test_automation__yields_the_graph_of_its_calls():
    @automation("shop.order", title="Order", input=Order)
    def order(inp):
        return add(prices=price.partial(buyer=inp.buyer).map(line=inp.lines))

    graph = order.graph
    assert [(n.key, n.mapped, n.parents) for n in graph.nodes] == [
        ("price", True, []),
        ("add", False, ["price"]),
    ]
    assert graph.output == "add"
    assert graph.sinks == ["add"]
    assert Graph.load(graph.dump()) == graph


def test_automation__the_same_step_twice_gets_two_keys():
    @automation("shop.twice", title="Twice", input=Order)
    def twice(inp):
        one = add(prices=[1])
        add(prices=price.partial(buyer="x").map(line=inp.lines))
        return one

    assert [n.key for n in twice.graph.nodes] == ["add", "price", "add_2"]


def test_checksum__follows_the_graph_and_the_input():
    def declare(constant):
        @automation("shop.const", title="Const", input=Order)
        def const(inp):
            return add(prices=[constant])

        return const.checksum

    assert declare(1) == declare(1)
    assert declare(1) != declare(2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda inp: add(price=[1]), ["'add'", "price"]),
        (lambda inp: add(), ["'add'", "without", "prices"]),
        (lambda inp: add(prices="seven"), ["'add'", "prices"]),
        (lambda inp: add(prices=inp.buyer), ["'add'", "prices", "str"]),
        (lambda inp: add(prices=inp.line), ["input", "line"]),
        (lambda inp: price.partial(buyer="x").map(line=inp.buyer), ["'price'", "line", "no list"]),
        (lambda inp: price.partial(buyer="x").map(line=add(prices=[1])), ["'price'", "no list"]),
        (lambda inp: add([1]), ["by name"]),
        (lambda inp: list(inp.lines), ["map"]),
        (lambda inp: add(prices=[1]) if inp.buyer else None, ["inside a step"]),
        (lambda inp: None, ["calls no step"]),
        (lambda inp: inp.lines if ship(order=inp) else None, ["inside a step"]),
    ],
)
def test_automation__graph_errors_name_file_and_step(body, words):
    with pytest.raises(GraphInvalidError) as caught:
        automation("shop.wrong", title="Wrong", input=Order)(body)
    assert "test_authoring.py:" in caught.value.message
    assert "shop.wrong" in caught.value.message
    for word in words:
        assert word in caught.value.message


def test_step__outside_an_automation_is_refused():
    with pytest.raises(GraphInvalidError, match="outside an automation"):
        add(prices=[1])


def test_names__are_unique_and_well_formed():
    with pytest.raises(GraphInvalidError, match="<department>"):
        automation("shop", title="Shop", input=Order)(lambda inp: add(prices=[1]))
    with pytest.raises(GraphInvalidError, match="on_dead"):
        automation("shop.a", title="A", input=Order, on_dead="explode")(lambda inp: add(prices=[1]))
    with pytest.raises(GraphInvalidError, match="dead_letter"):
        department("dead_letter", title="Taken")

    department("shop", title="Shop")
    with pytest.raises(GraphInvalidError, match="already declared"):
        department("shop", title="Shop again")


def test_step__refuses_an_annotation_that_exists_only_for_the_type_checker():
    def broken(ctx, value: Missing):  # noqa: F821
        return value

    with pytest.raises(GraphInvalidError, match="Missing"):
        step(name="shop.broken")(broken)


def test_graph__refuses_cycles_and_dangling_names():
    def node(key, *parents):
        return {
            "key": key,
            "step": key,
            "over": {},
            "args": {p: {"source": "node", "key": p, "path": [], "value": None} for p in parents},
        }

    def graph(*nodes):
        return Graph.load({"nodes": list(nodes), "output": None, "on_dead": "block"})

    with pytest.raises(GraphInvalidError, match=r"circle: \['a', 'b'\]"):
        graph(node("a", "b"), node("b", "a"), node("c")).validate(where="x.py:1")
    with pytest.raises(GraphInvalidError, match=r"x\.py:1.*'ghost'"):
        graph(node("a", "ghost")).validate(where="x.py:1")


def test_load__a_broken_file_is_a_problem_and_not_a_traceback(tmp_path, monkeypatch):
    package = tmp_path / "broken_catalog"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "good.py").write_text(
        "from pydantic import BaseModel\n"
        "from engine.authoring import StepContext, automation, department, step\n"
        "department('good', title='Good')\n"
        "class In(BaseModel): pass\n"
        "@step\n"
        "def one(ctx: StepContext) -> int: return 1\n"
        "@automation('good.fine', title='Fine', input=In)\n"
        "def fine(inp): return one()\n"
        "@automation('good.wrong', title='Wrong', input=In)\n"
        "def wrong(inp): return one(colour='red')\n"
    )
    (package / "bad.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.load(["broken_catalog"])
    bad, wrong = registry.problems
    assert "broken_catalog.bad" in bad
    assert "ZeroDivisionError" in bad
    assert "good.py:" in wrong
    assert "'one'" in wrong
    assert "good.fine" in registry.automations
    registry.problems.clear()


@pytest.mark.parametrize("name", ["timeout", "progress_within"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e9])
def test_step__refuses_seconds_that_no_clock_can_judge(name, seconds):
    with pytest.raises(GraphInvalidError, match=f"{name} must be above 0 seconds"):
        step(name="shop.late", **{name: seconds})(lambda ctx: None)
