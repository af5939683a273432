"""Why a run is not further: one machine-readable cause for every step that has not ended.

A fixed number of bounded queries, whatever the size of the run. They are not one snapshot: a step
may move between two of them, and then the answer is the one of a moment ago. All times are the
database's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import definitions, selectors, sql, wait_reasons
from engine.graph import UNMAPPED
from engine.models import DeadLetter, WorkerPresence
from engine.states import RUN_TERMINAL, STEP_TERMINAL
from engine.wait_reasons import Facts, StepReason

if TYPE_CHECKING:
    from uuid import UUID

    from engine.models import Run
    from engine.wait_reasons import Reason

#: Steps explained and dead letters named, at most.
MAX_STEPS, MAX_LETTERS = 1000, 100

# The id is not bare: PostgreSQL may else go along all steps there ever were to the run's.
STEPS = """
SELECT s.id, s.key, s.map_index, s.state, s.queue, s.lane, s.attempt, s.worker, s.claim,
    s.cancel_requested, s.error_code, s.ready_at, s.dispatched_at, s.next_at, s.started_at,
    l.worker AS holder, l.expires_at, l.deadline_at
FROM engine_steprun s LEFT JOIN engine_lease l ON l.claim = s.claim
WHERE s.run_id = %(run)s AND s.state <> ALL(%(ended)s)
ORDER BY s.id + 0 DESC LIMIT %(limit)s
"""
OPEN = """
SELECT key, count(*) AS number FROM engine_steprun
WHERE run_id = %(run)s AND state NOT IN ('succeeded', 'skipped') GROUP BY key
"""
# In flight is counted for lanes with a limit only: there it is small. Of the others it is asked
# whether anything was sent and not begun: then what is ready stands in line behind it.
LANE = """
SELECT clock_timestamp() AS now, l.paused, l.max_concurrency,
    CASE WHEN l.max_concurrency IS NOT NULL THEN (SELECT count(*) FROM engine_steprun s
        WHERE s.lane = l.slug AND s.state IN ('queued', 'running')) END AS in_flight,
    EXISTS (SELECT 1 FROM engine_steprun s
        WHERE s.lane = l.slug AND s.state = 'queued' AND s.claim IS NULL) AS in_line
FROM (SELECT 1) one LEFT JOIN engine_lane l ON l.slug = %(lane)s
"""
WORKERS = """
SELECT hostname, queues, held FROM engine_workerpresence
WHERE seen_at > clock_timestamp() - make_interval(secs => %(present)s)
"""
EFFECTS = """
SELECT id, step_run_id, name, sent_at FROM engine_effect
WHERE run_id = %(run)s AND state = 'unknown' ORDER BY id LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a run has not ended yet (None when it has), and each of its open steps."""

    run: Reason | None
    steps: list[StepReason]


def explain(*, run_id: UUID, limit: int = MAX_STEPS) -> Explanation:
    """Return why the run and each of its open steps have not ended, NotFoundError without it."""
    run = selectors.run(run_id=run_id)
    if run.state in RUN_TERMINAL:
        return Explanation(run=None, steps=[])
    ended = [state.value for state in STEP_TERMINAL]
    rows = sql.rows(STEPS, {"run": run_id, "ended": ended, "limit": limit})
    facts = _facts(run)
    steps = [
        StepReason(
            step_run_id=row.id,
            step=_name(row),
            state=row.state,
            reason=wait_reasons.of_step(row, facts),
        )
        for row in rows
    ]
    return Explanation(run=wait_reasons.of_run(facts, steps), steps=steps)


def served_queues() -> set[str]:
    """Return the queues that a present worker consumes."""
    found = sql.rows(WORKERS, {"present": WorkerPresence.ONLINE_SECONDS})
    return {queue for row in found for queue in sql.parsed(row.queues)}


def _facts(run: Run) -> Facts:
    graph = definitions.graph(run.version_id)
    (lane,) = sql.rows(LANE, {"lane": run.department})
    workers = sql.rows(WORKERS, {"present": WorkerPresence.ONLINE_SECONDS})
    held: dict[int, tuple[str, int, int]] = {}
    for worker in workers:
        ids = sql.parsed(worker.held)
        for place, step_run_id in enumerate(ids, start=1):
            held.setdefault(step_run_id, (worker.hostname, place, len(ids)))
    letters = list(DeadLetter.objects.filter(run=run, state="open").order_by("id")[:MAX_LETTERS])
    upstream: dict[str, DeadLetter] = {}
    for letter in letters:
        if letter.step in graph.by_key:
            for key in graph.downstream(letter.step):
                upstream.setdefault(key, letter)
    effects = sql.rows(EFFECTS, {"run": run.pk, "limit": MAX_STEPS})
    return Facts(
        run=run,
        graph=graph,
        now=lane.now,
        paused=bool(lane.paused),
        limit=lane.max_concurrency,
        in_flight=lane.in_flight,
        in_line=lane.in_line,
        served={queue for worker in workers for queue in sql.parsed(worker.queues)},
        held=held,
        open={row.key: row.number for row in sql.rows(OPEN, {"run": run.pk})},
        letters=letters,
        upstream=upstream,
        effects={row.step_run_id: row for row in reversed(effects)},
    )


def _name(row: Any) -> str:
    return row.key if row.map_index == UNMAPPED else f"{row.key}[{row.map_index}]"
