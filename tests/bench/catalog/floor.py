"""The workloads as automations: ordinary pure steps, declared as every author declares them."""

from __future__ import annotations

from pydantic import BaseModel

from engine.authoring import StepContext, automation, department, step
from tests.bench import work

department("floor", title="Floor", purpose="What the benchmark measures")

CHAIN = 40


class Nothing(BaseModel):
    pass


class Items(BaseModel):
    numbers: list[int]


@step
def number(ctx: StepContext, before: int = 0) -> int:
    return work.fib(work.FIB)


@step
def last_number(ctx: StepContext, before: int) -> int:
    found = work.fib(work.FIB)
    work.say_now()
    return found


@step
def item(ctx: StepContext, number: int) -> int:
    return number


@step
def join(ctx: StepContext, items: list[int]) -> None:
    work.say_now()


@step
def nothing(ctx: StepContext, before: None = None) -> None:
    return None


@step
def last_nothing(ctx: StepContext, before: None = None) -> None:
    work.say_now()


@automation("floor.chain", title="W1: 40 steps in a row", input=Nothing)
def chain(inp):
    """Compute 40 times, one after the other."""
    found = number()
    for _ in range(CHAIN - 2):
        found = number(before=found)
    return last_number(before=found)


@automation("floor.fan", title="W2: many steps and a join", input=Items)
def fan(inp):
    """Do nothing many times at once, then meet."""
    return join(items=item.map(number=inp.numbers))


@automation("floor.short", title="W3: three steps", input=Nothing)
def short(inp):
    """Do nothing three times."""
    return last_nothing(before=nothing(before=nothing()))


@automation("floor.single", title="W4: one step", input=Nothing)
def single(inp):
    """Do nothing once."""
    return last_nothing()
