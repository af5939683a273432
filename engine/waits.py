"""The history of waiting: when a run began to wait for what, and when it went on.

`why` tells of now. For "why did this take three hours yesterday?" the manager notes in the run's
history each wait of more than a moment, once when it begins and once when it is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine import sql, why
from engine.causes import WaitCause
from engine.late_steps import LateSteps
from engine.states import RUN_TERMINAL, RunState
from engine.wait_reasons import cause_of_waiting
from engine.wording import moment, span

if TYPE_CHECKING:
    from uuid import UUID

WAITING, GOING_ON = "run.waiting", "run.going_on"
#: Shorter waits are not worth a line of history, in seconds.
PATIENCE_SECONDS = 5.0
#: Open waits looked at in a turn, and open runs asked in a turn after a takeover.
CHECKS, RUNS = 2000, 500
#: Open waits kept in mind; more are noted when some of these are over.
MAX_OPEN = 20_000

LANES = """
SELECT l.slug, l.paused, l.max_concurrency IS NOT NULL AS limited, clock_timestamp() AS now,
    EXISTS (SELECT 1 FROM engine_steprun s
        WHERE s.lane = l.slug AND s.state = 'queued' AND s.claim IS NULL) AS in_line
FROM engine_lane l
"""
# What waits in a run now, by the index on the run. The witness is the step that will begin last:
# while it waits the wait goes on, and one look by primary key tells.
OF_RUNS = """
SELECT w.run_id, w.queue, r.state AS run_state, s.*
FROM unnest(%(runs)s::uuid[], %(queues)s::text[]) AS w(run_id, queue)
JOIN engine_run r ON r.id = w.run_id
CROSS JOIN LATERAL (
    SELECT count(*) AS steps, bool_or(s.state = 'ready') AS ready, max(s.lane) AS lane,
        min(s.ready_at) AS since, max(s.id) AS witness
    FROM engine_steprun s
    WHERE s.run_id = w.run_id AND s.queue = w.queue AND s.state IN ('ready', 'queued')
      AND s.claim IS NULL AND NOT s.cancel_requested
      AND s.ready_at < clock_timestamp() - make_interval(secs => %(patience)s)) s
"""
WITNESSES = """
SELECT s.id, s.lane, s.state, s.started_at, r.state AS run_state,
    s.state IN ('ready', 'queued') AND s.claim IS NULL AS waits
FROM engine_steprun s JOIN engine_run r ON r.id = s.run_id WHERE s.id = ANY(%(ids)s)
"""
LAST_NOTES = """
SELECT DISTINCT ON (e.run_id, e.data->>'queue') e.run_id, e.kind, e.data
FROM engine_runevent e
WHERE e.run_id = ANY(%(runs)s) AND e.kind IN ('run.waiting', 'run.going_on')
ORDER BY e.run_id, e.data->>'queue', e.id DESC
"""
# State and id as a pair, as they stand in run_by_state: never along all ids, filtering.
OPEN_RUNS = """
SELECT id FROM engine_run
WHERE state >= %(state)s AND (state, id) < (%(state)s, %(before)s)
ORDER BY state DESC, id DESC LIMIT %(limit)s
"""
NOTE = """
INSERT INTO engine_runevent (run_id, step_run_id, kind, attempt, actor, data, at)
SELECT r.id, NULL, n.kind, NULL, '', n.data, clock_timestamp()
FROM unnest(%(runs)s::uuid[], %(kinds)s::text[], %(data)s::jsonb[])
    WITH ORDINALITY AS n(run_id, kind, data, place)
JOIN engine_run r ON r.id = n.run_id ORDER BY n.place
"""
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass(slots=True, kw_only=True)
class Wait:
    """A run's wait at one queue, as it stands in the history."""

    cause: WaitCause
    since: datetime
    #: The step whose waiting proves it; 0 when another one is to be found.
    witness: int = 0
    #: Another cause that was seen once: it is believed when it is seen again.
    doubt: WaitCause | None = None


class History:
    """What this process knows of the waits that are open; the truth about them is in the events.

    One wait per (run, queue) at a time. A process that takes over reads the events, so that no wait
    is noted twice and those that ended in between are closed, unless their run has ended as well.
    After an error this object is to be dropped and another one made.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[UUID, str], Wait] = {}
        self._pages = LateSteps()
        self._unasked = {state.value: LAST_ID for state in RunState if state not in RUN_TERMINAL}
        self._notes: list[tuple[UUID, str, dict[str, Any]]] = []

    def turn(self) -> int:
        """Note what began to wait and what went on; return how many events were written."""
        lanes = {row.slug: row for row in sql.rows(LANES)}
        if not lanes:
            return 0
        self._notes = []
        served = why.served_queues()
        self._remember()
        self._check(lanes, served)
        self._begin(lanes, served)
        if self._notes:
            kinds = [kind for _run, kind, _data in self._notes]
            data = [sql.jsonb(data) for _run, _kind, data in self._notes]
            runs = [run for run, _kind, _data in self._notes]
            sql.count(NOTE, {"runs": runs, "kinds": kinds, "data": data})
        return len(self._notes)

    def _remember(self) -> None:
        """After a takeover, look at a page of the open runs for waits that were noted before."""
        for state, before in list(self._unasked.items()):
            found = sql.rows(OPEN_RUNS, {"state": state, "before": before, "limit": RUNS})
            self._adopt([row.id for row in found])
            if len(found) < RUNS:
                del self._unasked[state]
            else:
                self._unasked[state] = found[-1].id
            return

    def _adopt(self, runs: list[UUID]) -> None:
        """Take over the waits of these runs that stand open in their history."""
        if not runs:
            return
        for row in sql.rows(LAST_NOTES, {"runs": runs}):
            data = sql.parsed(row.data)
            key = (row.run_id, data["queue"])
            if row.kind == WAITING and key not in self._open:
                since = datetime.fromisoformat(data["since"])
                self._open[key] = Wait(cause=WaitCause(data["reason_code"]), since=since)

    def _begin(self, lanes: dict[str, Any], served: set[str]) -> None:
        """Note the runs whose steps have begun to wait."""
        if len(self._open) >= MAX_OPEN:
            return
        late = self._pages.read(lanes=list(lanes), patience_seconds=PATIENCE_SECONDS)
        fresh = [key for key in late if key not in self._open]
        self._adopt(list({run for run, _queue in fresh}))
        fresh = [key for key in fresh if key not in self._open]
        for row in _waiting_in(fresh):
            if not row.steps:
                continue
            cause = _cause(row.run_state, lanes.get(row.lane), served, row.queue, ready=row.ready)
            if cause != WaitCause.RUN_ENDING:
                wait = Wait(cause=cause, since=row.since, witness=row.witness)
                self._note_begin((row.run_id, row.queue), wait, row.steps)

    def _check(self, lanes: dict[str, Any], served: set[str]) -> None:
        """See which of the open waits are over, or wait for something else by now."""
        keys = list(self._open)[:CHECKS]
        rows = {
            row.id: row
            for row in sql.rows(WITNESSES, {"ids": [self._open[key].witness for key in keys]})
        }
        moved = []
        for key in keys:
            wait = self._open.pop(key)
            self._open[key] = wait  # to the end of the line: the next turn looks at the others
            row = rows.get(wait.witness)
            if row is None or not row.waits:
                moved.append(key)
            else:
                ready = row.state == "ready"
                cause = _cause(row.run_state, lanes.get(row.lane), served, key[1], ready=ready)
                self._believe(key, cause, _now(lanes))
        known = {(row.run_id, row.queue): row for row in _waiting_in(moved)}
        for key in moved:
            row, wait = known.get(key), self._open[key]
            if row is None:
                del self._open[key]  # the run has been purged, and its history with it
            elif row.steps:
                wait.witness = row.witness
            else:
                last = rows.get(wait.witness)
                began = last.started_at if last is not None else None
                until = began if began is not None and began > wait.since else _now(lanes)
                self._note_end(key, until, run_state=row.run_state)

    def _believe(self, key: tuple[UUID, str], cause: WaitCause, now: datetime) -> None:
        """Change the cause of a wait when it was seen twice: between two sendings it flickers."""
        wait = self._open[key]
        if cause in {wait.cause, WaitCause.RUN_ENDING}:
            wait.doubt = None
        elif wait.doubt != cause:
            wait.doubt = cause
        else:
            self._note_end(key, now)
            self._note_begin(key, Wait(cause=cause, since=now, witness=wait.witness), None)

    def _note_begin(self, key: tuple[UUID, str], wait: Wait, steps: int | None) -> None:
        run_id, queue = key
        self._open[key] = wait
        data: dict[str, Any] = {
            "reason_code": wait.cause.value,
            "queue": queue,
            "since": wait.since.isoformat(),
            "message": f"Waits at the queue {queue} since {moment(wait.since)}. "
            f"{wait.cause.meaning}",
        }
        if steps is not None:
            data["steps"] = steps
        self._notes.append((run_id, WAITING, data))

    def _note_end(self, key: tuple[UUID, str], until: datetime, *, run_state: str = "") -> None:
        run_id, queue = key
        wait = self._open.pop(key)
        waited = until - wait.since
        data = {
            "reason_code": wait.cause.value,
            "queue": queue,
            "since": wait.since.isoformat(),
            "waited_seconds": round(waited.total_seconds(), 1),
            "message": f"Waited {span(waited)} at the queue {queue} ({wait.cause.value}).",
        }
        if run_state:
            data["run_state"] = run_state
        self._notes.append((run_id, GOING_ON, data))


def _waiting_in(keys: list[tuple[UUID, str]]) -> list[Any]:
    """Return what waits in these runs at these queues, a row for each that still exists."""
    if not keys:
        return []
    values = {
        "runs": [run for run, _queue in keys],
        "queues": [queue for _run, queue in keys],
        "patience": PATIENCE_SECONDS,
    }
    return sql.rows(OF_RUNS, values)


def _cause(run_state: str, lane: Any, served: set[str], queue: str, *, ready: bool) -> WaitCause:
    return cause_of_waiting(
        state="ready" if ready else "queued",
        run_state=run_state,
        paused=lane is not None and lane.paused,
        # Whoever waits for more than a moment in a lane with a limit waits for the limit, also
        # when a place was free just now.
        full=lane is not None and lane.limited,
        in_line=lane is not None and lane.in_line,
        served=queue in served,
    )


def _now(lanes: dict[str, Any]) -> datetime:
    now: datetime = next(iter(lanes.values())).now
    return now
