"""Which runs there are: filtered, newest first, page by page. A page costs a page (README)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from engine import run_rows, sql
from engine.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.models import Run

#: Below and above every id.
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)
#: Ids begin with the moment at which the submitting process made them; rows have the database's
#: time. The two clocks are not further apart than this.
CLOCKS_APART = timedelta(minutes=10)
#: A year inside what Python can show, so that an hour may be added.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Bits of an id (UUIDv7) behind its milliseconds.
_RANDOM_BITS = 80

#: The values of the column that the index begins with.
_PLACES = "unnest(%(of)s::text[]) AS place(value) CROSS JOIN "
_DATED = "AND created_at >= %(created_after)s AND created_at < %(created_before)s"
_ALL = """
SELECT id FROM engine_run WHERE id < %(before)s AND id > %(after)s {dated}
ORDER BY id {way} LIMIT %(limit)s
"""
# A page out of each state's, in each of the departments if some are asked for, along an index that
# names the state: also where the wanted state is rare among a million others, or a department has
# had no run for a year, a page costs a page. What the index names is compared and ordered as one
# row: PostgreSQL would else go along another index, which looks cheaper for unknown values, and
# filter.
_BY_STATE = """
SELECT r.id FROM {places}unnest(%(states)s::text[]) AS wanted(state) CROSS JOIN LATERAL (
    SELECT id FROM engine_run
    WHERE ({columns}) < ({values}, %(before)s) AND ({columns}) > ({values}, %(after)s) {dated}
    ORDER BY {order} LIMIT %(limit)s) r
ORDER BY r.id {way} LIMIT %(limit)s
"""
# Along the index of the word, which leaves out the rows without one.
_BY_WORD = """
SELECT id FROM engine_run
WHERE {word} = %(word)s AND {word} <> '' AND id < %(before)s AND id > %(after)s {dated} AND {of}
    {tagged} state = ANY(%(states)s::text[]) AND error_code = COALESCE(%(error_code)s, error_code)
ORDER BY id {way} LIMIT %(limit)s
"""
_TAGGED = "jsonb_exists(tags, %(tag)s) AND"
# Along the tag's own table, newest first as it lies; the rest is asked of each.
_BY_TAG = """
SELECT tagged.run_id AS id
FROM engine_runtag tagged JOIN engine_run run ON run.id = tagged.run_id
WHERE tagged.tag = %(tag)s AND tagged.run_id < %(before)s AND tagged.run_id > %(after)s {dated}
    AND {of} state = ANY(%(states)s::text[])
    AND error_code = COALESCE(%(error_code)s, error_code)
ORDER BY tagged.run_id {way} LIMIT %(limit)s
"""
#: What names few runs, the fewest first.
_WORDS = {"correlation_id": _BY_WORD, "tag": _BY_TAG, "error_code": _BY_WORD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs; None is any. Moments have a time zone; `created_before` is exclusive.

    departments: whichever else is asked for, only runs of these.
    """

    state: str | None = None
    department: str | None = None
    departments: Sequence[str] | None = None
    automation: str | None = None
    correlation_id: str | None = None
    error_code: str | None = None
    tag: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


ANY = Wanted()


def runs(
    *,
    limit: int,
    wanted: Wanted = ANY,
    before: UUID | None = None,
    after: UUID | None = None,
    states: Sequence[str] | None = None,
) -> list[Run]:
    """Return a page of runs, newest first, with the numbers of their versions, without inputs.

    before: the last id of the page before this one. after: the first id of the page behind it.
    states: any of these, where `wanted` names no state.
    """
    ids = _ids(wanted, limit=limit, before=before, after=after, states=states)
    return run_rows.many(ids=ids)


def count(*, wanted: Wanted, at_most: int) -> int:
    """Count the runs, and give up at `at_most`."""
    return len(_ids(wanted, limit=at_most, before=None, after=None))


@lru_cache(maxsize=64)
def statement(
    *, of: str, word: str, by_state: bool, dated: bool, upward: bool, tagged: bool = False
) -> str:
    """Return the query along the index that fits: `word` before `of` before the state.

    tagged: with a word other than the tag, whether the tag is asked for too.
    """
    text = _WORDS[word] if word else _BY_STATE if of or by_state else _ALL
    way = "ASC" if upward else "DESC"
    columns = [of, "state", "id"] if of else ["state", "id"]
    return text.format(
        of=f"{of} = ANY(%(of)s::text[]) AND" if of else "",
        places=_PLACES if of else "",
        columns=", ".join(columns),
        values="place.value, wanted.state" if of else "wanted.state",
        order=", ".join(f"{column} {way}" for column in columns),
        word=word,
        tagged=_TAGGED if tagged else "",
        dated=_DATED if dated else "",
        way=way,
    )


def _ids(
    wanted: Wanted,
    *,
    limit: int,
    before: UUID | None,
    after: UUID | None,
    states: Sequence[str] | None = None,
) -> Sequence[UUID]:
    of, places = _places(wanted)
    if of and not places:
        return []
    word = next((name for name in _WORDS if getattr(wanted, name)), "")
    text = statement(
        of=of,
        word=word,
        by_state=wanted.state is not None or states is not None,
        dated=wanted.created_after is not None or wanted.created_before is not None,
        upward=after is not None,
        tagged=wanted.tag is not None,
    )
    values: dict[str, Any] = {
        "states": sql.array([wanted.state] if wanted.state else states or RunState),
        "of": sql.array(places),
        "word": getattr(wanted, word) if word else None,
        "error_code": wanted.error_code,
        "tag": wanted.tag,
        "before": before or LAST_ID,
        "after": after or FIRST_ID,
        "created_after": wanted.created_after or EARLIEST,
        "created_before": wanted.created_before or LATEST,
        "limit": limit,
    }
    if wanted.created_before is not None:
        values["before"] = min(values["before"], _id_at(wanted.created_before + CLOCKS_APART))
    if wanted.created_after is not None:
        values["after"] = max(values["after"], _id_at(wanted.created_after - CLOCKS_APART))
    return [row.id for row in sql.rows(text, values)]


def _places(wanted: Wanted) -> tuple[str, Sequence[str]]:
    """Return the column to begin with ("" for none) and the values of it that are asked for."""
    column = "automation" if wanted.automation else "department"
    value = wanted.automation or wanted.department
    if value is None:
        return ("", ()) if wanted.departments is None else (column, wanted.departments)
    owner = value.partition(".")[0]  # an automation is of the department it is named after
    seen = wanted.departments is None or owner in wanted.departments
    return column, [value] if seen and wanted.department in {None, owner} else []


def _id_at(moment: datetime) -> UUID:
    """Return an id below all that are made from this moment on."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=max(milliseconds, 0) << _RANDOM_BITS)
