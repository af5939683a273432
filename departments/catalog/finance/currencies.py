"""Decide the one currency of a statement, from the column, the header or beside the amounts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from departments.catalog.finance import amounts, rows
from departments.catalog.finance.refusals import RefusedError

if TYPE_CHECKING:
    from departments.catalog.finance.columns import Header
    from departments.catalog.finance.rows import Row

MONEY_ROLES = ("amount", "debit", "credit")
#: A sign several currencies share, by the code it is read as: the owner's word decides.
_SHARED = {
    "USD": frozenset({"AUD", "CAD", "HKD", "MXN", "NZD", "SGD", "TWD", "ARS", "CLP", "COP"}),
    "JPY": frozenset({"CNY"}),
    "kr": frozenset({"SEK", "NOK", "DKK", "ISK"}),
    "kr.": frozenset({"SEK", "NOK", "DKK", "ISK"}),
    "Fr": frozenset({"CHF"}),
    "Fr.": frozenset({"CHF"}),
}


class Currency(NamedTuple):
    """The currency of the report, and whether the amounts carry others beside them."""

    code: str
    is_mixed: bool = False


def decide(found: list[Row], header: Header, wanted: str | None) -> Currency:
    """Return the currency; raise `RefusedError` when there are several, or another than wanted."""
    named = Counter(amounts.code(cell) for cell in rows.column(found, header, "currency"))
    beside = Counter(
        amount.currency
        for role in MONEY_ROLES
        for cell in rows.column(found, header, role)
        if (amount := amounts.split(cell)) and amount.currency
    )
    if wanted:
        wanted = wanted.upper()
        seen = set(named or beside or ([header.currency] if header.currency else []))
        if seen and not any(is_same(code, wanted) for code in seen):
            raise RefusedError(
                "currency_contradicted",
                f"The amounts are in {', '.join(sorted(seen)[:4])}, the report was asked for in "
                f"{wanted}, and nothing is converted. Leave currency empty or pass the file's own.",
            )
        return Currency(wanted, is_mixed=len(beside) > 1)
    for codes, role in ((named, "currency"), (beside, "amount")):
        if len(codes) > 1:
            raise _mixed(codes, header, role)
    code = next(iter(named), "") or header.currency or next(iter(beside), "")
    return Currency(code)


def is_same(code: str, wanted: str) -> bool:
    """Tell whether a code or sign found in the file may stand for the wanted currency."""
    return code == wanted or wanted in _SHARED.get(code, frozenset())


def _mixed(codes: Counter[str], header: Header, role: str) -> RefusedError:
    column = header.name(role if role in header.roles else "debit")
    seen = ", ".join(f"{code[:8]} ({count} rows)" for code, count in codes.most_common(4))
    return RefusedError(
        "currencies_mixed",
        f"Column “{column}” mixes currencies: {seen}. Amounts of different currencies cannot be "
        "added: pass currency to keep one, or export one account a file.",
    )
