"""Read the dates of a whole column: one order for all of them, decided by evidence or refused."""

from __future__ import annotations

import datetime as dt
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from departments.catalog.finance.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DateOrder = Literal["auto", "dmy", "mdy"]

FIRST_YEAR = 1970
LAST_YEAR = 2099
MIN_DATES_FOR_ORDER = 8
"""So many different dates must run in sequence before the sequence counts as evidence."""
TOLERATED_MINORITY = 0.02
"""Up to this share of values may contradict the rest; they become unreadable rows."""

_TIME = (
    r"(?:[T ,]+\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[.,]\d+)?(?: ?[AaPp]\.?[Mm]\.?)?"
    r"(?: ?(?:Z|[+-]\d{2}:?\d{2}))?(?: ?(?:UTC|GMT|CES?T))?)?"
)
_ISO = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}")
_COMPACT = re.compile(rf"((?:19|20)\d{{2}})(\d{{2}})(\d{{2}}){_TIME}")
_NUMERIC = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}|\d{{2}}){_TIME}")
_DAY_NAME = re.compile(rf"(\d{{1,2}})\.?[ -]([^\W\d_]{{3,9}})\.?,?[ -](\d{{4}}|\d{{2}}){_TIME}")
_NAME_DAY = re.compile(rf"([^\W\d_]{{3,9}})\.? (\d{{1,2}}),? (\d{{4}}|\d{{2}}){_TIME}")
_MONTH_NAMES = (
    "jan january januar janvier enero gennaio januari",
    "feb february februar fevrier février febrero febbraio februari",
    "mar march mär maerz märz mrz mars marzo maart",
    "apr april avril abril aprile",
    "may mai mayo maggio mei",
    "jun june juni juin junio giugno",
    "jul july juli juillet julio luglio",
    "aug august août aout agosto augustus",
    "sep sept september septembre septiembre settembre",
    "oct october okt oktober octobre octubre ottobre",
    "nov november novembre noviembre",
    "dec december dez dezember décembre decembre diciembre dicembre",
)
_MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names.split()}


class DateStyle(NamedTuple):
    """How the numeric dates of a column are ordered, and how that was found out."""

    day_first: bool
    how: str


def decide(values: Sequence[str], *, column: str, order: DateOrder = "auto") -> DateStyle:
    """Return the one order of day and month for all `values`; raise `RefusedError` if undecidable.

    Evidence, in this order: the caller's word; a number above 12; points as separator (nobody
    writes month first with points); the sequence of the rows, if only one reading is in order.
    """
    if order != "auto":
        return DateStyle(order == "dmy", f"as told (date_order={order})")
    numeric = [match for value in values if (match := _NUMERIC.fullmatch(value))]
    if not numeric:
        return DateStyle(day_first=True, how="year first or month by name, nothing to decide")
    _refuse_year_first(numeric, column=column)
    day_first, month_first = _decisive(numeric)
    minority = min(day_first, month_first)
    if minority and minority > TOLERATED_MINORITY * (day_first + month_first):
        raise RefusedError(
            "dates_mixed",
            f"Column “{column}” mixes date orders: {day_first} dates fit only day/month, "
            f"{month_first} only month/day. Export the file again with one date format.",
        )
    if day_first or month_first:
        is_day_first = day_first > month_first
        shown, count = ("day", day_first) if is_day_first else ("month", month_first)
        return DateStyle(
            is_day_first, f"{shown} first: {count} of {len(numeric)} dates fit no other order"
        )
    if all(match[2] == "." for match in numeric):
        return DateStyle(day_first=True, how="day first: the separator is a point")
    if all(match[1] == match[3] for match in numeric):
        return DateStyle(day_first=True, how="day and month are equal in every date")
    return _by_sequence(numeric, column=column)


def _refuse_year_first(numeric: Sequence[re.Match[str]], *, column: str) -> None:
    """Refuse YY-MM-DD, which would pass as DD-MM-YY with years all over the calendar."""
    if any(len(match[4]) == 4 for match in numeric):  # noqa: PLR2004 - digits
        return
    first, last = {match[1] for match in numeric}, {match[4] for match in numeric}
    if len(last) >= MIN_DATES_FOR_ORDER and len(first) * 2 < len(last):
        raise RefusedError(
            "dates_ambiguous",
            f"Column “{column}”: dates like {numeric[0].group()[:10]} seem to begin with a "
            "two-digit year. Export the file again with four-digit years.",
        )


def _decisive(numeric: Iterable[re.Match[str]]) -> tuple[int, int]:
    """Count the dates that exist only day first, and those that exist only month first."""
    day_first = month_first = 0
    for match in numeric:
        as_day_first, as_month_first = (_numeric_date(match, order) for order in (True, False))
        day_first += as_day_first is not None and as_month_first is None
        month_first += as_month_first is not None and as_day_first is None
    return day_first, month_first


def _by_sequence(numeric: Sequence[re.Match[str]], *, column: str) -> DateStyle:
    ordered: list[bool] = []
    for is_day_first in (True, False):
        dates = [date for match in numeric if (date := _numeric_date(match, is_day_first))]
        rising = all(a <= b for a, b in pairwise(dates))
        falling = all(a >= b for a, b in pairwise(dates))
        ordered.append((rising or falling) and len(set(dates)) >= MIN_DATES_FOR_ORDER)
    if ordered[0] != ordered[1]:
        word = "day" if ordered[0] else "month"
        return DateStyle(ordered[0], f"{word} first: only so are the rows in sequence")
    raise RefusedError(
        "dates_ambiguous",
        f"Column “{column}”: all {len(numeric)} dates fit both DD/MM and MM/DD "
        f"(for example {numeric[0].group()[:10]}). Pass date_order=dmy or date_order=mdy.",
    )


def parse(value: str, style: DateStyle) -> dt.date | str:
    """Return the date in a cell, or the reason why there is none."""
    if not value:
        return "no date"
    match = _NUMERIC.fullmatch(value)
    if match:
        date = _numeric_date(match, style.day_first)
        order = "day/month/year" if style.day_first else "month/day/year"
        return date or f"“{value[:20]}” is no date in the order {order} of this column"
    date = _named_or_iso(value)
    return date or f"“{value[:20]}” is not a date"


def looks_like_date(value: str) -> bool:
    """Tell whether a cell is written like a date, whatever its order."""
    patterns = (_ISO, _NUMERIC, _COMPACT, _DAY_NAME, _NAME_DAY)
    return any(pattern.fullmatch(value) for pattern in patterns)


def _named_or_iso(value: str) -> dt.date | None:
    if match := _ISO.fullmatch(value):
        return _date(match[1], int(match[3]), int(match[4]))
    if match := _COMPACT.fullmatch(value):
        return _date(match[1], int(match[2]), int(match[3]))
    if match := _DAY_NAME.fullmatch(value):
        return _date(match[3], _MONTHS.get(match[2].casefold(), 0), int(match[1]))
    if match := _NAME_DAY.fullmatch(value):
        return _date(match[3], _MONTHS.get(match[1].casefold(), 0), int(match[2]))
    return None


def _numeric_date(match: re.Match[str], day_first: bool) -> dt.date | None:  # noqa: FBT001 - pair of readings
    first, second = int(match[1]), int(match[3])
    day, month = (first, second) if day_first else (second, first)
    return _date(match[4], month, day)


def _date(year: str, month: int, day: int) -> dt.date | None:
    """Build a date; two-digit years are 1970 to 2069, the span of electronic banking."""
    number = int(year)
    if len(year) == 2:  # noqa: PLR2004 - digits
        number += 2000 if number < FIRST_YEAR % 100 else 1900
    if not FIRST_YEAR <= number <= LAST_YEAR:
        return None
    try:
        return dt.date(number, month, day)
    except ValueError:
        return None
