"""Join the months into one picture of the ledger, and refuse to go on if it does not add up."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING

from pydantic import BaseModel

from departments.catalog.finance import calendar_months, forecast, recurring
from departments.catalog.finance.months import LARGEST_KEPT, DayBalance, Largest, MonthTotals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RECENT_MONTHS = 12
GAP_MONTHS = 3
"""So many months without a movement are worth a word: a wrong date, or a part is missing."""
ZERO = Decimal("0.00")


class Line(BaseModel):
    """A line number of the file and what is to be said about it."""

    line: int
    reason: str


class LedgerFacts(BaseModel):
    """What is known about the file itself: how it was read, what was left out, what it begins with.

    Lists hold the first hundred lines; the totals count all of them.
    """

    file_name: str
    sha256: str
    is_sample: bool
    encoding: str
    delimiter: str
    header_line: int
    columns: dict[str, str]
    dates_how: str
    numbers_how: str
    newest_first: bool
    currency: str
    movements: int
    first_date: dt.date
    last_date: dt.date
    opening: Decimal
    opening_how: str
    balance_known: bool
    unreadable_total: int = 0
    unreadable: list[Line] = []
    skipped_total: int = 0
    skipped: list[Line] = []
    balances_checked: int = 0
    balances_unread: int = 0
    printed_closing: Decimal | None = None
    discrepancies_total: int = 0
    discrepancies: list[Line] = []


@dataclass(frozen=True, slots=True)
class MonthLine:
    """One month (or year) of the table: `opening + income + spending == closing`."""

    month: str
    opening: Decimal
    income: Decimal
    spending: Decimal
    closing: Decimal
    movements: int

    @property
    def net(self) -> Decimal:
        """Return income plus (negative) spending."""
        return self.income + self.spending


@dataclass(frozen=True, slots=True)
class CategoryLine:
    """One category over the whole ledger and in each of its months."""

    name: str
    total: Decimal
    by_month: dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything the report says, as numbers."""

    facts: LedgerFacts
    months: list[MonthLine]
    total: MonthLine
    spending: list[CategoryLine]
    income: list[CategoryLine]
    days: list[DayBalance]
    lowest: DayBalance
    largest_in: list[Largest]
    largest_out: list[Largest]
    recurring: list[recurring.Series]
    forecast: forecast.Forecast
    uncategorised: int

    @property
    def fixed_costs_a_month(self) -> Decimal:
        """Return what the running recurring payments cost in a month, as a negative number."""
        running = (s.a_year for s in self.recurring if s.active and s.expected < 0)
        return (sum(running, ZERO) / 12).quantize(Decimal("0.01"))


def join(facts: LedgerFacts, totals: Sequence[MonthTotals]) -> Analysis:
    """Return the analysis; raise `ArithmeticError` when any sum is off by a cent."""
    totals = sorted(totals, key=lambda month: month.month)
    months = _months(facts, totals)
    total = _sum("total", months)
    days = [day for month in totals for day in month.days]
    payments = [payment for month in totals for payment in month.payments]
    analysis = Analysis(
        facts=facts,
        months=months,
        total=total,
        spending=_categories((t.month, t.spending_by_category) for t in totals),
        income=_categories((t.month, t.income_by_category) for t in totals),
        days=days,
        lowest=min(days, key=lambda day: (day.balance, day.date)),
        largest_in=_largest(totals, incoming=True),
        largest_out=_largest(totals, incoming=False),
        recurring=recurring.find(payments, until=facts.last_date),
        forecast=_forecast(facts, months, payments),
        uncategorised=sum(month.uncategorised for month in totals),
    )
    _check_sums(analysis)
    return analysis


def gaps(months: Sequence[MonthLine]) -> list[tuple[str, str]]:
    """Return first and last month of each stretch of `GAP_MONTHS` or more without movements."""
    stretches: list[list[str]] = []
    for is_empty, group in groupby(months, key=lambda month: not month.movements):
        if is_empty:
            stretches.append([month.month for month in group])
    return [(names[0], names[-1]) for names in stretches if len(names) >= GAP_MONTHS]


def years(months: Iterable[MonthLine]) -> list[MonthLine]:
    """Add the months up by year."""
    grouped: defaultdict[str, list[MonthLine]] = defaultdict(list)
    for month in months:
        grouped[month.month[:4]].append(month)
    return [_sum(year, group) for year, group in grouped.items()]


def _months(facts: LedgerFacts, totals: Sequence[MonthTotals]) -> list[MonthLine]:
    """Return all months from first to last; a month without movements is a line of zeros."""
    by_name = {month.month: month for month in totals}
    lines: list[MonthLine] = []
    balance = facts.opening
    for name in calendar_months.between(totals[0].month, totals[-1].month):
        month = by_name.get(name)
        if month is None:
            lines.append(MonthLine(name, balance, ZERO, ZERO, balance, 0))
            continue
        balance = month.closing
        lines.append(
            MonthLine(
                name, month.opening, month.income, month.spending, month.closing, month.movements
            )
        )
    return lines


def _sum(name: str, months: Sequence[MonthLine]) -> MonthLine:
    return MonthLine(
        name,
        months[0].opening,
        sum((m.income for m in months), ZERO),
        sum((m.spending for m in months), ZERO),
        months[-1].closing,
        sum(m.movements for m in months),
    )


def _categories(months: Iterable[tuple[str, dict[str, Decimal]]]) -> list[CategoryLine]:
    grouped: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
    for month, amounts in months:
        for name, amount in amounts.items():
            if amount:
                grouped[name][month] = amount
    lines = [CategoryLine(name, sum(by.values(), ZERO), by) for name, by in grouped.items()]
    return sorted(lines, key=lambda line: (-abs(line.total), line.name))


def _largest(totals: Sequence[MonthTotals], *, incoming: bool) -> list[Largest]:
    found = [m for month in totals for m in month.largest if (m.amount > 0) is incoming]
    return sorted(found, key=lambda m: (-abs(m.amount), m.date))[:LARGEST_KEPT]


def _forecast(
    facts: LedgerFacts, months: Sequence[MonthLine], payments: Sequence[recurring.Payment]
) -> forecast.Forecast:
    flows = [forecast.MonthFlow(m.month, m.income, m.spending) for m in months]
    complete = forecast.complete_months(flows, first_day=facts.first_date, last_day=facts.last_date)
    if not complete:
        return forecast.forecast([], [], balance=ZERO)
    at_end = next(m.closing for m in months if m.month == complete[-1].month)
    last, begun = months[-1], None
    if complete[-1].month != last.month:
        end = calendar_months.last_day(last.month)
        share_left = Decimal((end - facts.last_date).days) / end.day
        begun = forecast.Begun(last.month, last.income, last.spending, share_left)
    return forecast.forecast(complete, payments, balance=at_end, begun=begun)


def _check_sums(analysis: Analysis) -> None:
    """Prove to the cent what the report claims; a report that does not add up is not written."""
    total = analysis.total
    by_category = sum((line.total for line in (*analysis.income, *analysis.spending)), ZERO)
    balance = analysis.facts.opening
    for month in analysis.months:
        if month.opening != balance or month.opening + month.net != month.closing:
            raise ArithmeticError(f"month {month.month} does not add up")
        balance = month.closing
    if total.net != by_category or total.opening + total.net != balance:
        raise ArithmeticError("categories, months and balance do not add up to the same")
    if Counter(month.month for month in analysis.months).most_common(1)[0][1] > 1:
        raise ArithmeticError("a month was counted twice")
