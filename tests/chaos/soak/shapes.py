"""The automations of the soak, declared twice: with pure steps, and with steps that write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from engine.authoring import StepContext, automation, department, step
from tests.chaos.soak import load, marks

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkInput(BaseModel):
    number: int = 1
    count: int = 3
    seconds: float = 0.0
    trouble: str = ""
    times: int = 0
    #: Only each n-th item of a fan-out takes its `seconds`, 0 for all of them.
    every: int = 0


def declare(slug: str, *, title: str, purpose: str, finish: Callable[[StepContext], None]) -> None:
    """Declare a department with every shape of run; `finish` ends each of its steps' bodies."""
    department(slug, title=title, purpose=purpose)

    @step(name=f"{slug}.work", retry=marks.QUICK, timeout=60)
    def work(
        ctx: StepContext,
        number: int,
        *,
        seconds: float = 0.0,
        trouble: str = "",
        times: int = 0,
        every: int = 0,
    ) -> int:
        marks.began(ctx)
        marks.rest(ctx, seconds if number % max(every, 1) == 0 else 0.0)
        marks.suffer(ctx, trouble, times)
        finish(ctx)
        return number * 3 + 1

    @step(name=f"{slug}.numbers", retry=marks.QUICK, timeout=60)
    def numbers(ctx: StepContext, count: int) -> list[int]:
        marks.began(ctx)
        finish(ctx)
        return list(range(count))

    @step(name=f"{slug}.total", retry=marks.QUICK, timeout=60)
    def total(ctx: StepContext, found: list[int]) -> int:
        marks.began(ctx)
        finish(ctx)
        return sum(found)

    @step(name=f"{slug}.meet", retry=marks.QUICK, timeout=60)
    def meet(ctx: StepContext, one: int, other: int) -> int:
        marks.began(ctx)
        finish(ctx)
        return one + other

    @automation(f"{slug}.single", title="One step", input=WorkInput)
    def single(inp):
        """Work once."""
        return work(number=inp.number, seconds=inp.seconds, trouble=inp.trouble, times=inp.times)

    @automation(f"{slug}.chain", title="Three steps in a row", input=WorkInput)
    def chain(inp):
        """Work on what the work before has left."""
        troubled = work(
            number=work(number=inp.number),
            seconds=inp.seconds,
            trouble=inp.trouble,
            times=inp.times,
        )
        return work(number=troubled)

    @automation(
        f"{slug}.strict", title="Fails when a step is dead", input=WorkInput, on_dead="fail"
    )
    def strict(inp):
        """End as failed when the first step is dead."""
        return work(number=work(number=inp.number, trouble=inp.trouble, times=inp.times))

    @automation(f"{slug}.diamond", title="Apart and together", input=WorkInput)
    def diamond(inp):
        """Part into two and meet again."""
        top = work(number=inp.number)
        return meet(one=work(number=top), other=work(number=top, seconds=inp.seconds))

    @automation(f"{slug}.fan", title="Fan-out and fan-in", input=WorkInput)
    def fan(inp):
        """Work on many numbers at once."""
        items = work.partial(
            seconds=inp.seconds, trouble=inp.trouble, times=inp.times, every=inp.every
        )
        return total(found=items.map(number=numbers(count=inp.count)))

    _declare_line(slug, work)


def _declare_line(slug: str, work: Any) -> None:
    """Declare the longest chain, of steps that take no time."""

    @automation(f"{slug}.line", title="Twelve steps in a row", input=WorkInput)
    def line(inp):
        """Go on and on where the step before was."""
        number = work(number=inp.number)
        for _ in range(load.LINE - 1):
            number = work(number=number)
        return number
