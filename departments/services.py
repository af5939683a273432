"""What operators do to departments. Lanes are written through `engine.lanes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from departments import selectors
from engine import lanes

if TYPE_CHECKING:
    from departments.selectors import DepartmentStatus


def pause(*, slug: str, actor: str) -> DepartmentStatus:
    """Stop sending work of the department; what runs goes on to its end.

    Pausing a paused department changes nothing. Raises NotFoundError for an unknown slug.
    """
    lanes.pause(slug=slug, actor=actor)
    return selectors.department(slug=slug)


def resume(*, slug: str, actor: str) -> DepartmentStatus:
    """Send work of the department again; `actor` is who asks. Raises as `pause` does."""
    lanes.resume(slug=slug, actor=actor)
    return selectors.department(slug=slug)
