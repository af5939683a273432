"""Turn a statement into the facts about it and its months, each with its opening balance."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from departments.catalog.finance import money, months, table
from departments.catalog.finance.analysis import LedgerFacts, Line
from departments.catalog.finance.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from departments.catalog.finance.movements import Movement
    from departments.catalog.finance.rows import Problem
    from departments.catalog.finance.statements import Statement

SHOWN_LINES = 100
MAX_MONTHS = 600
"""Fifty years: more months mean a wrong date, and would be as many steps."""
ZERO = Decimal("0.00")
_SHOWN_ROLES = ("date", "amount", "debit", "credit", "balance", "payee", "text", "currency")


class Month(NamedTuple):
    """A month with movements, and the balance it opens with."""

    name: str
    opening: Decimal
    movements: list[Movement]


def facts(
    statement: Statement,
    *,
    content: bytes,
    file_name: str,
    is_sample: bool,
    opening_balance: Decimal | None,
) -> LedgerFacts:
    """Return what the report says about the file; the owner's opening balance wins."""
    movements, check = statement.movements, statement.balance
    opening, how = ZERO, "the file has no balance column and none was given"
    if check is not None:
        opening = check.opening
        how = f"from column “{statement.header.name('balance')}”"
    if opening_balance is not None:
        opening, how = opening_balance, "as told (opening_balance)"
    discrepancies = check.discrepancies if check else ()
    return LedgerFacts(
        file_name=file_name,
        sha256=hashlib.sha256(content).hexdigest(),
        is_sample=is_sample,
        encoding=statement.encoding,
        delimiter=statement.header.delimiter,
        header_line=statement.header.line,
        columns={
            role: statement.header.name(role)
            for role in _SHOWN_ROLES
            if role in statement.header.roles
        },
        dates_how=statement.dates_how,
        numbers_how=statement.numbers_how,
        newest_first=statement.newest_first,
        currency=statement.currency,
        movements=len(movements),
        first_date=movements[0].date,
        last_date=movements[-1].date,
        opening=opening,
        opening_how=how,
        balance_known=check is not None or opening_balance is not None,
        unreadable_total=len(statement.unreadable),
        unreadable=_lines(statement.unreadable),
        skipped_total=len(statement.skipped),
        skipped=_lines(statement.skipped),
        balances_checked=check.checked if check else 0,
        balances_unread=statement.balances_unread,
        printed_closing=check.closing if check else None,
        discrepancies_total=len(discrepancies),
        discrepancies=[
            Line(
                line=item.line,
                reason=f"printed {money.exact(item.found)}, by the movements "
                f"{money.exact(item.expected)}: off by "
                f"{money.exact(item.found - item.expected, plus=True)}",
            )
            for item in discrepancies[:SHOWN_LINES]
        ],
    )


def _lines(problems: Sequence[Problem]) -> list[Line]:
    return [Line(line=p.line, reason=p.reason) for p in problems[:SHOWN_LINES]]


def split(movements: Sequence[Movement], *, opening: Decimal) -> Iterator[Month]:
    """Yield the months that have movements, each opening where the one before closed."""
    count = len({movement.date.isoformat()[:7] for movement in movements})
    first, last = movements[0].date, movements[-1].date
    if (last.year - first.year) * 12 + last.month - first.month >= MAX_MONTHS:
        raise RefusedError(
            "period_too_long",
            f"The dates run from {first} to {last}, over {MAX_MONTHS // 12} years with movements "
            f"in {count} months: probably a wrong date. Correct it or export a shorter period.",
        )
    for name, group in months.by_month(movements):
        yield Month(name, opening, group)
        opening += sum((movement.amount for movement in group), ZERO)


def unreadable_csv(statement: Statement) -> bytes:
    """Return the full list of unreadable lines as CSV."""
    return table.content(("line_in_file", "reason"), statement.unreadable)
