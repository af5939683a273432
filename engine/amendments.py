"""Change a run on its way: its tags, priority, deadline. Nothing else of it ever changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import sql
from engine.audit import trail
from engine.errors import NotFoundError, StateConflictError
from engine.models import Run
from engine.transitions import amend as moves
from engine.transitions import runs as run_moves

if TYPE_CHECKING:
    from uuid import UUID


def amend(*, run_id: UUID, changes: dict[str, Any], actor: str) -> None:
    """Change `tags`, `priority` or `deadline_at` (None: no deadline); the rest stays as it is.

    Steps that wait go by the new priority at once; what is sent already keeps its place. Raises
    NotFoundError, or StateConflictError when the run has ended or is ending.
    """

    def move() -> None:
        if "priority" in changes:
            moves.prioritise(run_id=run_id, priority=changes["priority"])
        held = Run.objects.select_for_update(no_key=True).filter(pk=run_id)
        before = held.values("state", *changes).first()
        if before is None:
            raise NotFoundError(f"There is no run {run_id}")
        if not moves.amend(run_id=run_id, changes=changes):
            raise StateConflictError("The run", wanted="change it", actual=before["state"])
        if "priority" in changes:
            # A map that was expanding meanwhile has read the old one; the run is held now.
            moves.prioritise(run_id=run_id, priority=changes["priority"])
        told = {
            name: value.isoformat() if hasattr(value, "isoformat") else value
            for name, value in changes.items()
        }
        run_moves.note(run_id=run_id, kind="run.amended", actor=actor, **told)
        was, now = trail.changed(before, changes)
        trail.record("run.amend", kind="run", id=run_id, actor=actor, before=was, after=now)

    sql.patiently(move)
