"""Automations and steps that a test declares for itself."""

from __future__ import annotations

from pydantic import BaseModel

from engine.authoring import Retry, automation, step

ONCE = Retry(attempts=1)


class Wanted(BaseModel):
    """What a test asks its steps to do."""

    words: list[str] = []
    flag: str = ""


def declare_step(name, function, *, retry=ONCE, **values):
    return step(retry=retry, name=f"lab.{name}", **values)(function)


def declared(name, function, **values):
    return automation(f"lab.{name}", title=name, input=Wanted, **values)(function)
