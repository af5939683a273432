"""Change what may be changed of a run on its way: tags, priority, deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import sql

if TYPE_CHECKING:
    from uuid import UUID

# The steps come first, by descending id: the order in which everybody locks (README, "Locks"). Dead
# and cancelled ones too: a retry may bring them back.
STEPS = """
WITH mine AS (
    SELECT s.id FROM engine_steprun s
    WHERE s.run_id = %(run)s AND s.priority <> %(priority)s
      AND s.state NOT IN ('succeeded', 'failed', 'skipped')
    ORDER BY s.id DESC FOR NO KEY UPDATE)
UPDATE engine_steprun s SET priority = %(priority)s FROM mine WHERE s.id = mine.id
"""
RUN = """
UPDATE engine_run
SET tags = COALESCE(%(tags)s::jsonb, tags), priority = COALESCE(%(priority)s, priority),
    deadline_at = CASE WHEN %(dated)s THEN %(deadline_at)s ELSE deadline_at END
WHERE id = %(run)s AND state IN ('pending', 'running', 'paused', 'blocked')
"""


def prioritise(*, run_id: UUID, priority: int) -> None:
    """Move the steps of a run in their lines; call it in a transaction, before `amend`."""
    sql.count(STEPS, {"run": run_id, "priority": priority})


def amend(*, run_id: UUID, changes: dict[str, Any]) -> bool:
    """Write the changes of an open run; False when it has ended or is ending."""
    tags = changes.get("tags")
    values = {
        "run": run_id,
        "tags": None if tags is None else sql.jsonb(tags),
        "priority": changes.get("priority"),
        "dated": "deadline_at" in changes,
        "deadline_at": changes.get("deadline_at"),
    }
    return sql.count(RUN, values) == 1
