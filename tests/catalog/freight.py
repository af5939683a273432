"""A department with much to do, on workers that it shares with `courier`."""

from __future__ import annotations

import time

from pydantic import BaseModel, Field

from engine.authoring import StepContext, automation, department, step

FREIGHT = department("freight", title="Freight", purpose="Much to do, on workers it shares")


class LoadInput(BaseModel):
    seconds: float = 0.0


class ConvoyInput(LoadInput):
    count: int = Field(default=3, ge=0, le=100_000)


@step
def load(ctx: StepContext, seconds: float) -> None:
    if seconds:
        time.sleep(seconds)


@automation("freight.load", title="One load", input=LoadInput)
def one_load(inp):
    """Run one step that takes so long."""
    return load(seconds=inp.seconds)


@step
def lorries(ctx: StepContext, count: int) -> list[int]:
    return list(range(count))


@step
def drive(ctx: StepContext, lorry: int, seconds: float) -> int:
    if seconds:
        time.sleep(seconds)
    return lorry


@automation("freight.convoy", title="Many loads at once", input=ConvoyInput)
def convoy(inp):
    """Run as many steps at once as there are lorries."""
    return drive.partial(seconds=inp.seconds).map(lorry=lorries(count=inp.count))
