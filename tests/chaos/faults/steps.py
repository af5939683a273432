"""Steps for the crash points: they write, call out, and have points of their own."""

from __future__ import annotations

import os
import signal
import time
import urllib.request

from pydantic import BaseModel

from engine.authoring import StepContext, automation, step
from tests.catalog.lab import QUICK, note_in_ledger, numbers
from tests.chaos.faults import points


class TallyInput(BaseModel):
    seconds: float = 0.0


@step(retry=QUICK, timeout=600)
def tally(ctx: StepContext, seconds: float) -> int:
    """Take a while, then leave one row in the ledger."""
    points.fire("in_body", run_id=ctx.run_id, key=ctx.step)
    time.sleep(seconds)
    with ctx.transaction():
        note_in_ledger(ctx)
    return 1


@step(retry=QUICK)
def tally_after(ctx: StepContext, before: int) -> int:
    """Leave one row more."""
    with ctx.transaction():
        note_in_ledger(ctx)
    return before + 1


@automation("lab.tally", title="Two effects, one after the other", input=TallyInput)
def tally_chain(inp):
    """Write, then write again."""
    return tally_after(before=tally(seconds=inp.seconds))


@step(retry=QUICK, timeout=600)
def think(ctx: StepContext, seconds: float) -> int:
    """Take a while and write nothing."""
    points.fire("in_body", run_id=ctx.run_id, key=ctx.step)
    time.sleep(seconds)
    return 0


@automation("lab.think", title="A pure step, then an effect", input=TallyInput)
def think_chain(inp):
    """Think, then write."""
    return tally_after(before=think(seconds=inp.seconds))


class CallInput(BaseModel):
    url: str
    idempotent: bool = False


def post(url: str, key: str) -> None:
    request = urllib.request.Request(url, data=key.encode())  # noqa: S310 - the test's own server
    with urllib.request.urlopen(request, timeout=5):  # noqa: S310 - same
        pass


@step(retry=QUICK)
def call_out(ctx: StepContext, url: str) -> int:
    """Have an effect outside, under the key that is the same on every attempt, then write."""
    post(url, ctx.effect_key)
    points.fire("after_effect_before_commit", run_id=ctx.run_id, key=ctx.step)
    with ctx.transaction():
        note_in_ledger(ctx)
    return 1


@automation("lab.call_out", title="An effect outside", input=CallInput)
def call_out_chain(inp):
    """Call another system."""
    return call_out(url=inp.url)


@step(retry=QUICK)
def pay(ctx: StepContext, url: str, idempotent: bool) -> int:
    """Have an effect that is written down before and after the call."""

    def call(key: str) -> str:
        post(url, key)
        points.fire("after_effect_before_record", run_id=ctx.run_id, key=ctx.step)
        return "paid"

    ctx.effect("pay", call, idempotent=idempotent)
    with ctx.transaction():
        note_in_ledger(ctx)
    return 1


@automation("lab.pay", title="An effect outside, written down", input=CallInput)
def pay_chain(inp):
    """Pay once."""
    return pay(url=inp.url, idempotent=inp.idempotent)


class MinefieldInput(BaseModel):
    count: int
    mine: int


@step(retry=QUICK)
def tread(ctx: StepContext, number: int, mine: int) -> int:
    """End the process that runs the mined item; leave one row for each other one."""
    if number == mine:
        os.kill(os.getpid(), signal.SIGKILL)
    with ctx.transaction():
        note_in_ledger(ctx)
    return number


@automation("lab.minefield", title="One item ends its worker", input=MinefieldInput)
def minefield(inp):
    """Fan out over numbers of which one is poison."""
    return tread.partial(mine=inp.mine).map(number=numbers(count=inp.count))


@step(retry=QUICK)
def only_think(ctx: StepContext) -> int:
    """Be pure and have no successor."""
    return 0


@automation("lab.only_think", title="One pure step", input=TallyInput)
def only_think_chain(inp):
    """Think, and that is all."""
    return only_think()
