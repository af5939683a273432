"""A department with little to do, and that at once, on workers that it shares with `freight`."""

from __future__ import annotations

from pydantic import BaseModel

from engine.authoring import StepContext, automation, department, step

COURIER = department("courier", title="Courier", purpose="Little to do, and that at once")


class LetterInput(BaseModel):
    address: str = "next door"


@step
def deliver(ctx: StepContext, address: str) -> str:
    return address


@automation("courier.letter", title="One letter", input=LetterInput)
def letter(inp):
    """Run one short step."""
    return deliver(address=inp.address)
