"""What can be read of dead letters. Bounded, indexed, no side effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import NotFoundError
from engine.models import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


def dead_letters(
    *,
    limit: int,
    state: str | None = None,
    department: str | None = None,
    departments: Sequence[str] | None = None,
    automation: str | None = None,
    error_code: str | None = None,
    run_id: UUID | None = None,
    before: int | None = None,
) -> list[DeadLetter]:
    """Return dead letters, newest first; `before` is the last id of the page before.

    departments: leave out those of all others; None leaves out nothing.
    """
    found = DeadLetter.objects.order_by("-id")
    if state:
        found = found.filter(state=state)
    if department:
        found = found.filter(department=department)
    if departments is not None:
        found = found.filter(department__in=departments)
    if automation:
        found = found.filter(automation=automation)
    if error_code:
        found = found.filter(error_code=error_code)
    if run_id:
        found = found.filter(run_id=run_id)
    if before:
        found = found.filter(id__lt=before)
    return list(found[:limit])


def dead_letter(*, dead_letter_id: int) -> DeadLetter:
    """Return one dead letter, or NotFoundError."""
    found = DeadLetter.objects.filter(pk=dead_letter_id).first()
    if found is None:
        raise NotFoundError(f"There is no dead letter {dead_letter_id}")
    return found
