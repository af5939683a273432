"""Pure steps in a lane without a limit: their results are the oracle."""

from __future__ import annotations

from tests.chaos.soak import shapes

shapes.declare("mill", title="Mill", purpose="Pure steps of the soak", finish=lambda ctx: None)
