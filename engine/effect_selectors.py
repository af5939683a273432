"""What can be read of effects. Bounded, indexed, no side effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import NotFoundError
from engine.models import Effect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


def effects(
    *,
    limit: int,
    state: str | None = None,
    department: str | None = None,
    departments: Sequence[str] | None = None,
    run_id: UUID | None = None,
    before: int | None = None,
) -> list[Effect]:
    """Return effects with run and step, newest first; `before` is the last id of a page.

    departments: leave out those of all others; None leaves out nothing.
    """
    found = Effect.objects.select_related("run", "step_run").order_by("-id")
    if state:
        found = found.filter(state=state)
    if department:
        found = found.filter(run__department=department)
    if departments is not None:
        found = found.filter(run__department__in=departments)
    if run_id:
        found = found.filter(run_id=run_id)
    if before:
        found = found.filter(id__lt=before)
    return list(found[:limit])


def effect(*, effect_id: int) -> Effect:
    """Return one effect with run and step, or NotFoundError."""
    found = Effect.objects.select_related("run", "step_run").filter(pk=effect_id).first()
    if found is None:
        raise NotFoundError(f"There is no effect {effect_id}")
    return found
