"""Check a statement's own balance column against the sums of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ZERO = Decimal("0.00")


class BalanceRow(NamedTuple):
    """A movement with the balance the bank printed beside it, if any."""

    line: int
    amount: Decimal
    balance: Decimal | None


class Discrepancy(NamedTuple):
    """A printed balance that is not the one before plus the movements since."""

    line: int
    expected: Decimal
    found: Decimal


@dataclass(frozen=True, slots=True)
class BalanceCheck:
    """What the balance column says: where it begins, where it ends, where it does not add up."""

    opening: Decimal
    closing: Decimal
    checked: int
    discrepancies: tuple[Discrepancy, ...]


def check(rows: Iterable[BalanceRow]) -> BalanceCheck | None:
    """Follow the printed balances through `rows`, oldest first; None when none is printed.

    Rows without a printed balance (banks that print one a day) are summed up to the next one.
    """
    opening: Decimal | None = None
    known = pending = ZERO
    checked = 0
    discrepancies: list[Discrepancy] = []
    for line, amount, balance in rows:
        pending += amount
        if balance is None:
            continue
        if opening is None:
            opening = balance - pending
        else:
            checked += 1
            if known + pending != balance:
                discrepancies.append(Discrepancy(line, known + pending, balance))
        known, pending = balance, ZERO
    if opening is None:
        return None
    return BalanceCheck(opening, known + pending, checked, tuple(discrepancies))
