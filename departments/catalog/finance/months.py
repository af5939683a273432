"""One month of the ledger: its slice on the way to a step, and the totals the step returns."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections import Counter, defaultdict
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from departments.catalog.finance import categories, recurring, table
from departments.catalog.finance.movements import Movement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from departments.catalog.finance.categories import Categoriser

LARGEST_KEPT = 10
"""Largest movements kept a month, each way: no more are shown for the whole ledger."""
ZERO = Decimal("0.00")


class Largest(BaseModel):
    """A movement worth a line of its own."""

    model_config = ConfigDict(frozen=True)

    date: dt.date
    amount: Decimal
    payee: str
    text: str
    category: str


class DayBalance(BaseModel):
    """The running balance after the last movement of a day."""

    model_config = ConfigDict(frozen=True)

    date: dt.date
    balance: Decimal


class MonthTotals(BaseModel):
    """What one month adds up to: `opening + income + spending == closing`, to the cent.

    `spending` and its parts are negative or zero. `payments` are the candidates for recurring
    payments; `table` holds the month's lines of the CSV of all movements.
    """

    month: str
    opening: Decimal
    closing: Decimal
    income: Decimal
    spending: Decimal
    movements: int
    income_by_category: dict[str, Decimal]
    spending_by_category: dict[str, Decimal]
    uncategorised: int
    days: list[DayBalance]
    largest: list[Largest]
    payments: list[recurring.Payment]

    @property
    def net(self) -> Decimal:
        """Return income plus (negative) spending."""
        return self.income + self.spending


def dump(movements: Iterable[Movement]) -> bytes:
    """Write movements as the bytes of a slice: CSV of line, date, amount, payee, text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows((m.line, m.date.isoformat(), m.amount, m.payee, m.text) for m in movements)
    return out.getvalue().encode()


def load(content: bytes) -> list[Movement]:
    """Read a slice back; the inverse of `dump`."""
    return [
        Movement(int(line), dt.date.fromisoformat(date), Decimal(amount), payee, text)
        for line, date, amount, payee, text in csv.reader(io.StringIO(content.decode(), newline=""))
    ]


def by_month(movements: Iterable[Movement]) -> Iterator[tuple[str, list[Movement]]]:
    """Group movements, oldest first, by month (`2024-03`)."""
    for month, group in groupby(movements, key=lambda m: m.date.isoformat()[:7]):
        yield month, list(group)


def total(
    *, month: str, opening: Decimal, movements: Sequence[Movement], categoriser: Categoriser
) -> tuple[MonthTotals, bytes]:
    """Add up one month; return the totals and its lines of the CSV of all movements."""
    income: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    spending: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    lines = table.MovementLines()
    days: dict[dt.date, Decimal] = {}
    counted: Counter[str] = Counter()
    largest: list[Largest] = []
    balance = opening
    for m in movements:
        incoming = m.amount > 0
        category = categoriser.category(payee=m.payee, text=m.text, incoming=incoming)
        (income if incoming else spending)[category] += m.amount
        counted[category] += 1
        balance += m.amount
        days[m.date] = balance
        lines.add(m, category=category, balance=balance)
        largest.append(
            Largest(date=m.date, amount=m.amount, payee=m.payee, text=m.text, category=category)
        )
    largest.sort(key=lambda item: item.amount)
    came_in, went_out = sum(income.values(), ZERO), sum(spending.values(), ZERO)
    totals = MonthTotals(
        month=month,
        opening=opening,
        closing=balance,
        income=came_in,
        spending=went_out,
        movements=len(movements),
        income_by_category=dict(income),
        spending_by_category=dict(spending),
        uncategorised=counted[categories.UNCATEGORISED],
        days=[DayBalance(date=date, balance=value) for date, value in days.items()],
        largest=[m for m in largest[:LARGEST_KEPT] if m.amount < 0]
        + [m for m in largest[-LARGEST_KEPT:] if m.amount > 0],
        payments=recurring.candidates(movements),
    )
    return totals, lines.content()
