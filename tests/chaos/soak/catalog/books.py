"""Writing steps in a lane with a limit: each commits a row of its own with its result."""

from __future__ import annotations

from tests.chaos.soak import marks, shapes

shapes.declare("books", title="Books", purpose="Writing steps of the soak", finish=marks.book)
