"""Lanes: what may run where. Departments write them through here; the dispatcher reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from engine import sql
from engine.audit import trail
from engine.causes import ReleaseReason
from engine.errors import NotFoundError
from engine.models import Lane
from engine.transitions import dispatch as moves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.publishing import ReadyStep

# A run that is held costs one step of the way, however much it has ready. Mostly the first run that
# is found can go on.
WITH_READY = """
SELECT l.slug, l.queue FROM engine_lane l
WHERE NOT l.paused AND EXISTS (
    WITH RECURSIVE {runs}
    SELECT 1 FROM waiting w WHERE (SELECT r.state FROM engine_run r WHERE r.id = w.run_id)
        IN ('pending', 'running', 'blocked'))
ORDER BY l.slug
""".replace("{runs}", moves.RUNS_WITH_READY.format(lane="l.slug"))
# The lane's row is the lock under which credit is made: two dispatchers cannot spend it twice. What
# is in flight is counted up to the limit: beyond it there is no credit, however long the line.
CREDIT = """
SELECT l.max_concurrency, l.paused, (SELECT count(*) FROM (
    SELECT 1 FROM engine_steprun s WHERE s.lane = l.slug AND s.state IN ('queued', 'running')
    ORDER BY s.dispatched_at LIMIT COALESCE(l.max_concurrency, 0)) s) AS in_flight
FROM engine_lane l WHERE l.slug = %(lane)s FOR NO KEY UPDATE
"""


def declare(*, slug: str, queue: str) -> None:
    """Make sure that the lane exists; what operators have set on it stays."""
    sql.count(
        "INSERT INTO engine_lane (slug, queue, paused) VALUES (%(slug)s, %(queue)s, false)"
        " ON CONFLICT (slug) DO UPDATE SET queue = EXCLUDED.queue",
        {"slug": slug, "queue": queue},
    )


def pause(*, slug: str, actor: str) -> int:
    """Close a lane: nothing of it is sent or claimed; what runs goes on. Returns steps recalled."""
    _set("department.pause", slug, actor, paused=True)
    return sql.patiently(
        lambda: moves.hand_back_of_lane(
            lane=slug, reason=ReleaseReason.DEPARTMENT_PAUSED, actor=actor
        )
    )


def resume(*, slug: str, actor: str = "") -> None:
    """Open a lane again; the dispatcher sends what has gathered."""
    _set("department.resume", slug, actor, paused=False)


def limit(*, slug: str, max_concurrency: int | None, actor: str = "") -> None:
    """Set how many steps of the lane may be queued or running at once; None lifts the limit."""
    _set("department.limit", slug, actor, max_concurrency=max_concurrency)


def with_ready() -> dict[str, str]:
    """Return the open lanes in which something waits to be sent, each with its queue."""
    return {row.slug: row.queue for row in sql.rows(WITH_READY)}


def dispatch(
    *,
    lane: str,
    limit: int,
    send: Callable[[Sequence[ReadyStep]], None],
    above: int | None = None,
) -> int:
    """Send up to `limit` ready steps of a lane, within its credit, and note them as queued.

    above: only those of a higher priority than this.
    `send` runs inside the transaction: when it raises, every row stays ready. When the process dies
    after it, the rows stay ready too and are sent again; the second message finds nothing to claim.
    """
    with transaction.atomic():
        found = sql.rows(CREDIT, {"lane": lane})
        if not found or found[0].paused:
            return 0
        credit = limit
        if found[0].max_concurrency is not None:
            credit = min(limit, found[0].max_concurrency - found[0].in_flight)
        if credit <= 0:
            return 0
        steps = moves.take(lane=lane, limit=credit, above=above)
        if not steps:
            return 0
        send(steps)
        return moves.queue(steps=steps)


def _set(action: str, slug: str, actor: str, **values: Any) -> None:
    with transaction.atomic():
        lane = Lane.objects.select_for_update(no_key=True).filter(pk=slug)
        before = lane.values(*values).first()
        if before is None:
            raise NotFoundError(f"There is no department {slug!r}")
        Lane.objects.filter(pk=slug).update(**values)
        trail.record(action, kind="department", id=slug, actor=actor, before=before, after=values)
