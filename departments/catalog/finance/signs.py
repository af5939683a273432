"""Find out what says whether money came in or went out: signs, a column of words, the balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from departments.catalog.finance import amounts, columns, rows
from departments.catalog.finance.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from departments.catalog.finance.balances import BalanceCheck
    from departments.catalog.finance.columns import Header
    from departments.catalog.finance.rows import Row

DEBIT_WORDS = frozenset({
    "s", "d", "dr", "soll", "debit", "dbit", "af", "out", "lastschrift", "belastung", "withdrawal",
    "ausgang", "ausgabe", "money out", "expense", "debito", "cargo",
})  # fmt: skip
CREDIT_WORDS = frozenset({
    "h", "c", "cr", "haben", "credit", "crdt", "bij", "in", "gutschrift", "deposit",
    "eingang", "einnahme", "money in", "income", "credito", "abono",
})  # fmt: skip


def are_written(found: list[Row], header: Header) -> bool:
    """Tell whether any amount of the one amount column carries a sign."""
    cells = rows.column(found, header, "amount")
    return any((amount := amounts.split(cell)) and amount.signed for cell in cells)


def indicator(found: list[Row], header: Header) -> int | None:
    """Return the column that says debit or credit beside unsigned amounts, named or not."""
    if "amount" not in header.roles or are_written(found, header):
        return None
    taken = {index for role, index in header.roles.items() if role not in {"indicator", "kind"}}
    words = DEBIT_WORDS | CREDIT_WORDS
    for index in range(len(header.cells)):
        if index == header.roles.get("indicator"):
            return index
        values = {columns.fold(row.cells[index]) for row in found} if index not in taken else set()
        if values - {""} and values - {""} <= words and values & DEBIT_WORDS:
            return index
    return None


def debits_are_negative(cells: list[str]) -> bool:
    """Tell whether a debit column carries the minus signs itself: most of its amounts do.

    The others are corrections of the opposite direction.
    """
    split = [amount for cell in cells if (amount := amounts.split(cell))]
    filled = [amount.negative for amount in split if amount.digits.strip("0.,'")]
    return sum(filled) * 2 > len(filled)


def refuse_missing(
    movements: Sequence[tuple[int, Decimal]], check: BalanceCheck | None, *, column: str
) -> None:
    """Refuse unsigned amounts when the balance falls by some of them: all would pass as income.

    movements: line and amount of each.
    """
    by_line = dict(movements)
    against = [
        item.line
        for item in (check.discrepancies if check else ())
        if item.expected - item.found == 2 * by_line[item.line]
    ]
    if check and against and len(against) * 2 >= len(check.discrepancies):
        raise RefusedError(
            "signs_missing",
            f"No amount in column “{column}” has a sign, but the balance falls by "
            f"{len(against)} of them (for example on line {against[0]}). Export the file with "
            "signed amounts or with separate debit and credit columns.",
        )
