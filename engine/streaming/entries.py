"""What is told of an event, and where it is read: of runs by their index, else along the ids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import Field

from engine import disclosure, sql
from engine.graph import UNMAPPED
from engine.representations import EventEntry
from engine.states import RUN_TERMINAL
from engine.streaming import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Rows = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]

#: Ids looked through by one statement where there is no index but the ids: some 20 ms.
WINDOW_IDS = 20_000
ENDINGS = frozenset(f"run.{state}" for state in RUN_TERMINAL)

_COLUMNS = """e.id, e.run_id, e.kind, e.step_run_id, s.key, s.map_index, e.attempt, e.actor,
    e.data, e.at, {r}.automation, {r}.department, {r}.correlation_id,
    {r}.traceparent"""
# One look for each run: by a plan over all of them PostgreSQL may go along the ids instead.
OF_RUNS = sql.compact(f"""
SELECT {_COLUMNS.format(r="r")}
FROM unnest(%(runs)s::uuid[]) AS wanted(run) CROSS JOIN LATERAL (
    SELECT * FROM engine_runevent e
    WHERE e.run_id = wanted.run AND e.id > %(after)s AND e.id <= %(upto)s
    ORDER BY e.id LIMIT %(limit)s) e
JOIN engine_run r ON r.id = e.run_id LEFT JOIN engine_steprun s ON s.id = e.step_run_id
ORDER BY e.id
""")  # noqa: S608 - of this module's own constants
# OFFSET 0: each run by its key, whatever looks cheaper for an unknown department.
OF_DEPARTMENTS = sql.compact(f"""
SELECT {_COLUMNS.format(r="r")}
FROM engine_runevent e
CROSS JOIN LATERAL (SELECT * FROM engine_run r WHERE r.id = e.run_id OFFSET 0) r
LEFT JOIN engine_steprun s ON s.id = e.step_run_id
WHERE e.id > %(after)s AND e.id <= %(upto)s AND r.department = ANY(%(departments)s::text[])
ORDER BY e.id LIMIT %(limit)s
""")  # noqa: S608 - same
LAST_OF_RUN = """
SELECT r.state, (SELECT max(e.id) FROM engine_runevent e WHERE e.run_id = r.id)
FROM engine_run r WHERE r.id = %(run)s
"""


@dataclass(frozen=True, slots=True)
class Topic:
    """What somebody listens to: a run by its id, or a department by its slug."""

    kind: Literal["run", "department"]
    name: UUID | str


class StreamEvent(EventEntry):
    """An event as a stream tells it: the history's entry, and what it belongs to."""

    run_id: UUID
    automation: str
    department: str
    correlation_id: str
    traceparent: str
    step: str | None = Field(description="Which step of the graph; null for what concerns the run")
    map_index: int | None


@dataclass(frozen=True)
class Entry:
    """One event on its way to everybody who listens; turned into text once."""

    id: int
    kind: str
    told: StreamEvent

    @cached_property
    def frame(self) -> bytes:
        """Return the event as text of the stream."""
        return frames.event(self.kind, self.told.model_dump_json(), id=self.id)

    @cached_property
    def bare_frame(self) -> bytes:
        """Return the same for those who may not see what the run is about."""
        bare = disclosure.hidden(self.told)
        return frames.event(self.kind, bare.model_dump_json(), id=self.id)

    @property
    def is_ending(self) -> bool:
        """Tell whether the run has ended with this."""
        return self.kind in ENDINGS


def of_runs(
    rows: Rows, *, runs: Collection[UUID], after: int, upto: int, limit: int
) -> list[Entry]:
    """Return the events of these runs in (after, upto], at most `limit` of each, by id."""
    values = {"runs": sql.array(map(str, runs)), "after": after, "upto": upto, "limit": limit}
    return [_entry(row) for row in rows(OF_RUNS, values)]


def of_departments(
    rows: Rows, *, departments: Collection[str], after: int, upto: int, limit: int
) -> list[Entry]:
    """Return the events of runs of these departments in (after, upto], the first `limit`."""
    values = {"departments": sql.array(departments), "after": after, "upto": upto, "limit": limit}
    return [_entry(row) for row in rows(OF_DEPARTMENTS, values)]


def page(rows: Rows, *, topic: Topic, after: int, upto: int, limit: int) -> tuple[list[Entry], int]:
    """Return the next events of a topic, and up to which id these are all there are."""
    if isinstance(topic.name, UUID):
        found = of_runs(rows, runs=[topic.name], after=after, upto=upto, limit=limit)
    else:
        upto = min(upto, after + WINDOW_IDS)
        found = of_departments(rows, departments=[topic.name], after=after, upto=upto, limit=limit)
    return found, found[-1].id if len(found) == limit else upto


def ending(rows: Rows, *, run_id: UUID, after: int) -> tuple[bool, bool]:
    """Return whether a run has ended (or is gone), and whether nothing after `after` is left."""
    found = rows(LAST_OF_RUN, {"run": run_id})
    if not found:
        return True, True
    state, last = found[0]
    return state in RUN_TERMINAL, (last or 0) <= after


def _entry(row: tuple[Any, ...]) -> Entry:
    (
        event_id,
        run_id,
        kind,
        step_id,
        step,
        map_index,
        attempt,
        actor,
        data,
        at,
        automation,
        department,
        correlation_id,
        traceparent,
    ) = row
    told = StreamEvent(
        id=event_id,
        kind=kind,
        step_id=step_id,
        attempt=attempt,
        actor=actor,
        data=data,
        at=at,
        run_id=run_id,
        automation=automation,
        department=department,
        correlation_id=correlation_id,
        traceparent=traceparent,
        step=step,
        map_index=None if map_index == UNMAPPED else map_index,
    )
    return Entry(event_id, kind, told)
