"""Write the report's tables as CSV that spreadsheets open safely."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from departments.catalog.finance.analysis import Analysis
    from departments.catalog.finance.movements import Movement

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Without it Excel reads UTF-8 as Latin-1."""

MOVEMENT_COLUMNS = ("date", "payee", "text", "category", "amount", "balance", "line_in_file")

ZERO = Decimal("0.00")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def safe(text: str) -> str:
    """Return text no spreadsheet takes for a formula: a leading apostrophe disarms it.

    Source: OWASP, CSV Injection. Numbers of ours are written as numbers and never pass here.
    """
    return f"'{text}" if text.lstrip(" \n").startswith(_FORMULA_STARTS) else text


def content(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a whole CSV file: UTF-8 with BOM, comma, decimal point, CRLF (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([safe(c) if isinstance(c, str) else c for c in row] for row in rows)
    return BYTE_ORDER_MARK + out.getvalue().encode()


class MovementLines:
    """Collect lines of the CSV of all movements: a month's worth, without header."""

    def __init__(self) -> None:
        self._out = io.StringIO()
        self._writer = csv.writer(self._out, lineterminator="\r\n")

    def add(self, movement: Movement, *, category: str, balance: Decimal) -> None:
        """Add one movement with its category and the running balance after it."""
        self._writer.writerow(
            (
                movement.date.isoformat(),
                safe(movement.payee),
                safe(movement.text),
                safe(category),
                movement.amount,
                balance,
                movement.line,
            )
        )

    def content(self) -> bytes:
        """Return the lines written so far."""
        return self._out.getvalue().encode()


def header(columns: Sequence[str]) -> bytes:
    """Return the first line of a CSV put together from parts."""
    return BYTE_ORDER_MARK + (",".join(columns) + "\r\n").encode()


def months(analysis: Analysis) -> bytes:
    """Return the month table as CSV: balances, sums, and a column for each category."""
    spending, income = analysis.spending, analysis.income
    names = ["month", "opening", "income", "spending", "net", "closing", "movements"]
    names += [safe(f"income: {line.name}") for line in income]
    names += [safe(f"spending: {line.name}") for line in spending]
    rows = [
        [
            *(m.month, m.opening, m.income, m.spending, m.net, m.closing, m.movements),
            *(line.by_month.get(m.month, ZERO) for line in (*income, *spending)),
        ]
        for m in analysis.months
    ]
    return content(names, rows)
