"""Read a bank statement as banks export it into movements, losing no line silently.

Every record after the header ends in exactly one of three lists: `movements`, `unreadable` (with
line and reason) or `skipped` (recognised as no movement: repeated headers, totals, pending).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from departments.catalog.finance import (
    amounts,
    balances,
    columns,
    currencies,
    dates,
    decoding,
    movements,
    rows,
    signs,
)
from departments.catalog.finance.movements import Movement, Reading
from departments.catalog.finance.refusals import RefusedError

if TYPE_CHECKING:
    from decimal import Decimal

    from departments.catalog.finance.columns import Header
    from departments.catalog.finance.rows import Problem


@dataclass(slots=True)
class Statement:
    """A statement as read: movements oldest first, and how everything was found out."""

    movements: list[Movement]
    unreadable: list[Problem]
    skipped: list[Problem]
    currency: str
    balance: balances.BalanceCheck | None
    encoding: str
    header: Header
    dates_how: str
    numbers_how: str
    newest_first: bool
    preamble_lines: int
    balances_unread: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """What the owner says about the file; `auto` and None mean: find out."""

    date_order: dates.DateOrder = "auto"
    decimal_mark: amounts.DecimalMark = "auto"
    currency: str | None = None


def read(content: bytes, options: Options | None = None) -> Statement:
    """Read the bytes of a CSV statement; raise `RefusedError` when no honest reading exists."""
    options = options or Options()
    decoded = decoding.decode(content)
    lines = decoding.lines_of(decoded.text)
    header = columns.find(lines)
    unreadable: list[Problem] = []
    skipped: list[Problem] = []
    found = list(rows.under(header, lines, unreadable=unreadable, skipped=skipped))
    date_style = dates.decide(
        [cell for cell in rows.column(found, header, "date") if dates.looks_like_date(cell)],
        column=header.name("date"),
        order=options.date_order,
    )
    number_style = amounts.decide(
        (
            cell
            for role in ("amount", "debit", "credit", "balance")
            for cell in rows.column(found, header, role)
        ),
        mark=options.decimal_mark,
    )
    reading = Reading(
        header=header,
        date_style=date_style,
        number_style=number_style,
        indicator=signs.indicator(found, header),
        debits_signed=signs.debits_are_negative(rows.column(found, header, "debit")),
        currency=currencies.decide(found, header, options.currency),
        unreadable=unreadable,
        skipped=skipped,
    )
    for row in found:
        movements.read(reading, row)
    if not reading.read:
        raise RefusedError("no_movements", _nothing_read(unreadable))
    unsigned = "amount" in header.roles and reading.indicator is None
    if unsigned and not signs.are_written(found, header):
        signs.refuse_missing(
            [(movement.line, movement.amount) for movement, _ in reading.read],
            _oldest_first(reading.read)[1],
            column=header.name("amount"),
        )
    return _statement(reading, decoded.encoding)


def _statement(reading: Reading, encoding: str) -> Statement:
    ordered, check, newest_first = _oldest_first(reading.read)
    numbers_how = reading.number_style.how
    if reading.fees:
        less = [(_less(movement, reading.fees), balance) for movement, balance in reading.read]
        alternative = _oldest_first(less)
        if (
            check
            and alternative[1]
            and len(alternative[1].discrepancies) < len(check.discrepancies)
        ):
            ordered, check, newest_first = alternative
            numbers_how += "; fees beside the amounts are taken off, so the balances follow"
        else:
            numbers_how += "; amounts as printed, fees beside them are not taken off"
    return Statement(
        movements=sorted((movement for movement, _ in ordered), key=lambda m: m.date),
        unreadable=sorted(reading.unreadable),
        skipped=sorted(reading.skipped),
        currency=reading.currency.code,
        balance=check,
        encoding=encoding,
        header=reading.header,
        dates_how=reading.date_style.how,
        numbers_how=numbers_how,
        newest_first=newest_first,
        preamble_lines=reading.header.line - 1,
        balances_unread=reading.balances_unread,
    )


def _less(movement: Movement, fees: dict[int, Decimal]) -> Movement:
    """Return a movement less the fee printed beside it (Revolut)."""
    fee = fees.get(movement.line)
    return replace(movement, amount=movement.amount - fee) if fee else movement


def _oldest_first(
    read: list[tuple[Movement, Decimal | None]],
) -> tuple[list[tuple[Movement, Decimal | None]], balances.BalanceCheck | None, bool]:
    """Turn a newest-first file round: the direction in which balances add up, else by date."""
    steps = [a.date < b.date for (a, _), (b, _) in pairwise(read) if a.date != b.date]
    falls_more = sum(steps) * 2 < len(steps)
    options = []
    for newest_first in (falls_more, not falls_more):
        ordered = read[::-1] if newest_first else read
        check = balances.check(
            balances.BalanceRow(movement.line, movement.amount, balance)
            for movement, balance in ordered
        )
        options.append((ordered, check, newest_first))
    return min(options, key=lambda option: len(option[1].discrepancies) if option[1] else 0)


def _nothing_read(unreadable: list[Problem]) -> str:
    if not unreadable:
        return "There are no rows below the header. Export a period with movements."
    line, reason = unreadable[0]
    return (
        f"None of the {len(unreadable)} rows below the header could be read. "
        f"Line {line}: {reason}. Is it a bank statement, with one movement a line?"
    )
