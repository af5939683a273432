"""Steps for the crash points of the fast paths: a chain, a fork, and a crowd of short bodies."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel

from engine.authoring import StepContext, automation, step
from tests.catalog.lab import QUICK, note_in_ledger, numbers
from tests.chaos.faults import points

#: Steps of a chain.
LENGTH = 12


class FolderInput(BaseModel):
    """A folder in which every body that runs leaves a line, committed or not."""

    folder: str


def ran(folder: str, ctx: StepContext) -> None:
    """Leave a line in the file of this step."""
    index = "" if ctx.map_index is None else f"-{ctx.map_index}"
    with (Path(folder) / f"{ctx.step}{index}").open("a") as file:
        file.write("x\n")


@step(retry=QUICK, timeout=600)
def relay(ctx: StepContext, folder: str, before: int) -> int:
    """Be one of a chain, and leave one row in the ledger."""
    ran(folder, ctx)
    points.fire("in_body", run_id=ctx.run_id, key=ctx.step)
    with ctx.transaction():
        note_in_ledger(ctx)
    return before + 1


@step(retry=QUICK, timeout=600)
def pass_on(ctx: StepContext, folder: str, before: int) -> int:
    """Be one of a chain, and write nothing."""
    ran(folder, ctx)
    points.fire("in_body", run_id=ctx.run_id, key=ctx.step)
    return before + 1


@automation("lab.relay", title="A chain of steps that write", input=FolderInput)
def relay_chain(inp):
    """Write twelve times, each after the other."""
    value = relay(folder=inp.folder, before=0)
    for _ in range(LENGTH - 1):
        value = relay(folder=inp.folder, before=value)
    return value


@automation("lab.pass_on", title="A chain of pure steps", input=FolderInput)
def pass_on_chain(inp):
    """Count to twelve."""
    value = pass_on(folder=inp.folder, before=0)
    for _ in range(LENGTH - 1):
        value = pass_on(folder=inp.folder, before=value)
    return value


@step(retry=QUICK)
def join(ctx: StepContext, left: int, right: int) -> int:
    """Meet again."""
    return left + right


@automation("lab.fork", title="Apart and together, writing", input=FolderInput)
def fork(inp):
    """Go on with one branch here, and send the other."""
    top = relay(folder=inp.folder, before=0)
    return join(
        left=relay(folder=inp.folder, before=top), right=relay(folder=inp.folder, before=top)
    )


class CrowdInput(BaseModel):
    folder: str
    count: int
    #: Each body takes that long; the one with this index `long` on its first attempt.
    seconds: float = 0.0
    slow: int = -1
    long: float = 0.0
    #: The one with this index ends its worker, each time.
    mine: int = -1


@step(retry=QUICK, timeout=600)
def stand(
    ctx: StepContext, number: int, *, folder: str, seconds: float, slow: int, long: float, mine: int
) -> int:
    """Be one of a crowd, and write nothing."""
    ran(folder, ctx)
    if number == mine:
        os.kill(os.getpid(), signal.SIGKILL)
    points.fire("in_body", run_id=ctx.run_id, key=ctx.step, index=number)
    time.sleep(long if number == slow and ctx.attempt == 1 else seconds)
    return number


@step(retry=QUICK, timeout=600)
def mark(
    ctx: StepContext, number: int, *, folder: str, seconds: float, slow: int, long: float
) -> int:
    """Be one of a crowd, and leave one row in the ledger."""
    ran(folder, ctx)
    points.fire("in_body", run_id=ctx.run_id, key=ctx.step, index=number)
    time.sleep(long if number == slow and ctx.attempt == 1 else seconds)
    with ctx.transaction():
        note_in_ledger(ctx)
    return number


@step(retry=QUICK)
def add(ctx: StepContext, found: list[int]) -> int:
    """Add up what the crowd has returned."""
    return sum(found)


@automation("lab.crowd", title="Many short pure steps", input=CrowdInput)
def crowd(inp):
    """Fan out and add up."""
    one = stand.partial(
        folder=inp.folder, seconds=inp.seconds, slow=inp.slow, long=inp.long, mine=inp.mine
    )
    return add(found=one.map(number=numbers(count=inp.count)))


@automation("lab.writing_crowd", title="Many short writing steps", input=CrowdInput)
def writing_crowd(inp):
    """Fan out, write a row each, and add up."""
    one = mark.partial(folder=inp.folder, seconds=inp.seconds, slow=inp.slow, long=inp.long)
    return add(found=one.map(number=numbers(count=inp.count)))
