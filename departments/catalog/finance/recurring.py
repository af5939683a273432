"""Find payments that come back: same payee, same direction, regular interval, steady amount.

What counts: at least three payments (two for a yearly one of nearly the same amount), four of five
intervals within the tolerance of one rhythm, and amounts whose typical deviation from their median
is at most 30 %. A payee with several contracts is split by amount.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections import defaultdict
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from departments.catalog.finance import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from departments.catalog.finance.movements import Movement

MAX_A_MONTH = 6
"""A payee paid more often in a month is a shop or a till, not a recurring payment."""
MIN_PAYMENTS = 3
REGULAR_SHARE = 0.8
MAX_DEVIATION = Decimal("0.30")
FIXED_DEVIATION = Decimal("0.02")
SPLIT_GAP = Decimal("1.20")
"""Amounts of one payee this factor apart belong to different contracts."""
RECENT = 6
"""Payments the expected amount is taken from when the amount varies."""


class Rhythm(NamedTuple):
    """An interval: its days with tolerance, and its length in months or days."""

    name: str
    low: int
    high: int
    months: int
    days: int
    a_year: Decimal


RHYTHMS = (
    Rhythm("weekly", 6, 8, 0, 7, Decimal(52)),
    Rhythm("fortnightly", 12, 16, 0, 14, Decimal(26)),
    Rhythm("monthly", 25, 36, 1, 0, Decimal(12)),
    Rhythm("quarterly", 82, 101, 3, 0, Decimal(4)),
    Rhythm("half-yearly", 169, 197, 6, 0, Decimal(2)),
    Rhythm("yearly", 350, 381, 12, 0, Decimal(1)),
)
_BY_NAME = {rhythm.name: rhythm for rhythm in RHYTHMS}
_NUMBERS = re.compile(r"\b\w*\d\w*\b")


class Payment(BaseModel):
    """A movement that may be one of a series."""

    model_config = ConfigDict(frozen=True)

    key: str
    payee: str
    date: dt.date
    amount: Decimal


class Series(BaseModel):
    """A recurring payment as found: rhythm, amounts, and whether it still runs."""

    payee: str
    rhythm: str
    payments: list[Payment]
    expected: Decimal
    lowest: Decimal
    highest: Decimal
    fixed: bool
    active: bool

    @property
    def first(self) -> dt.date:
        """Return the date of the first payment."""
        return self.payments[0].date

    @property
    def last(self) -> dt.date:
        """Return the date of the last payment."""
        return self.payments[-1].date

    @property
    def a_year(self) -> Decimal:
        """Return what the series costs or brings in a year at the expected amount."""
        return self.expected * _BY_NAME[self.rhythm].a_year

    @property
    def change(self) -> Decimal | None:
        """Return last minus first amount of a series with steps (a price rise), else None."""
        first, last = self.payments[0].amount, self.payments[-1].amount
        return last - first if self.fixed and first != last else None

    def due(self) -> Iterator[dt.date]:
        """Yield the expected dates after the last payment, without end."""
        rhythm = _BY_NAME[self.rhythm]
        count = 0
        while True:
            count += 1
            if rhythm.months:
                yield _add_months(self.last, count * rhythm.months)
            else:
                yield self.last + dt.timedelta(days=count * rhythm.days)


def candidates(movements: Iterable[Movement]) -> list[Payment]:
    """Return a month's movements that may recur: of payees seen at most `MAX_A_MONTH` times."""
    grouped: defaultdict[tuple[str, bool], list[Movement]] = defaultdict(list)
    for movement in movements:
        if movement.amount:
            grouped[key(movement.payee), movement.amount > 0].append(movement)
    return [
        Payment(key=name, payee=m.payee, date=m.date, amount=m.amount)
        for (name, _), group in grouped.items()
        if name and len(group) <= MAX_A_MONTH
        for m in group
    ]


@lru_cache(maxsize=50_000)
def key(payee: str) -> str:
    """Return what makes a payee the same: folded, without words that hold digits (references)."""
    folded = columns.fold(payee)
    return " ".join(_NUMBERS.sub(" ", folded).split()) or folded


def find(payments: Iterable[Payment], *, until: dt.date) -> list[Series]:
    """Return the recurring payments among `payments`, the costliest first.

    until: end of the ledger; a series whose next payment is overdue by then has ended.
    """
    grouped: defaultdict[tuple[str, bool], list[Payment]] = defaultdict(list)
    for payment in payments:
        grouped[payment.key, payment.amount > 0].append(payment)
    found: list[Series] = []
    for group in grouped.values():
        group.sort(key=lambda payment: payment.date)
        whole = _series(group, until)
        if whole:
            found.append(whole)
            continue
        for part in _contracts(group):
            series = _series(part, until)
            if series:
                found.append(series)
    return sorted(found, key=lambda series: (not series.active, -abs(series.a_year), series.payee))


def _contracts(group: Sequence[Payment]) -> Iterator[list[Payment]]:
    """Split a payee's payments where sorted amounts leave a gap, each part by date again."""
    ordered = sorted(group, key=lambda payment: abs(payment.amount))
    part = [ordered[0]]
    for payment in ordered[1:]:
        if abs(payment.amount) > abs(part[-1].amount) * SPLIT_GAP:
            yield sorted(part, key=lambda item: item.date)
            part = []
        part.append(payment)
    if len(part) < len(group):
        yield sorted(part, key=lambda item: item.date)


def _series(group: Sequence[Payment], until: dt.date) -> Series | None:
    if len(group) < 2:  # noqa: PLR2004 - a series needs an interval
        return None
    rhythm = _rhythm([(b.date - a.date).days for a, b in pairwise(group)])
    if rhythm is None:
        return None
    amounts = [payment.amount for payment in group]
    deviation = _deviation(amounts)
    limit = MAX_DEVIATION
    if len(group) < MIN_PAYMENTS:
        if rhythm.name != "yearly":
            return None
        limit = FIXED_DEVIATION / 2
    if deviation > limit:
        return None
    fixed = _in_steps(amounts)
    expected = amounts[-1] if fixed else median(amounts[-RECENT:])
    overdue = group[-1].date + dt.timedelta(days=rhythm.high + rhythm.high // 4)
    return Series(
        payee=group[-1].payee,
        rhythm=rhythm.name,
        payments=list(group),
        expected=Decimal(expected).quantize(Decimal("0.01")),
        lowest=min(amounts, key=abs),
        highest=max(amounts, key=abs),
        fixed=fixed,
        active=overdue >= until,
    )


def _rhythm(intervals: Sequence[int]) -> Rhythm | None:
    for rhythm in RHYTHMS:
        fitting = sum(rhythm.low <= days <= rhythm.high for days in intervals)
        if fitting >= REGULAR_SHARE * len(intervals):
            return rhythm
    return None


def _deviation(amounts: Sequence[Decimal]) -> Decimal:
    """Return the median absolute deviation as a share of the median."""
    middle = median(amounts)
    return Decimal(median(abs(amount - middle) for amount in amounts)) / abs(middle)


def _in_steps(amounts: Sequence[Decimal]) -> bool:
    """Tell whether the amount is fixed: it stays equal (within 2 %) in four of five intervals."""
    same = sum(abs(a - b) <= FIXED_DEVIATION * abs(a) for a, b in pairwise(amounts))
    return same >= REGULAR_SHARE * (len(amounts) - 1)


def _add_months(date: dt.date, months: int) -> dt.date:
    """Return the same day some months later, or the month's last day if it is shorter."""
    number = date.year * 12 + date.month - 1 + months
    year, month = number // 12, number % 12 + 1
    return dt.date(year, month, min(date.day, calendar.monthrange(year, month)[1]))
