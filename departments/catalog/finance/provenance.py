"""Say how the figures were made: what was read, what was decided, what the words mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from departments.catalog.finance import money
from departments.catalog.finance.blocks import Notes, Section

if TYPE_CHECKING:
    from departments.catalog.finance.analysis import Analysis, LedgerFacts

_DELIMITER_NAMES = {";": "semicolon", ",": "comma", "\t": "tab", "|": "bar"}


def section(analysis: Analysis) -> Section:
    """Return the notes on sources and methods."""
    facts = analysis.facts
    roles = "; ".join(f"{role} from “{name}”" for role, name in facts.columns.items())
    items = [
        (
            "File",
            (
                f"{facts.file_name} (SHA-256 {facts.sha256[:16]}…), {facts.encoding}, "
                f"cells separated by {_DELIMITER_NAMES.get(facts.delimiter, facts.delimiter)}, "
                f"header on line {facts.header_line}, "
                f"{'newest' if facts.newest_first else 'oldest'} first."
            ),
        ),
        ("Columns", f"{roles}."),
        ("Dates", f"{facts.dates_how}."),
        ("Amounts", f"{facts.numbers_how}. Reckoned in decimal, to the cent, never rounded."),
        ("Balance", _balance(facts)),
        (
            "Income and spending",
            (
                "Everything positive is income, everything negative spending; transfers between "
                "own accounts and refunds count too. Income minus spending is the change of the "
                "balance: checked for every month, for the categories and in total before this "
                "was written."
            ),
        ),
        (
            "Categories",
            (
                "By keywords in payee, then text; own rules first. What no rule knows stays "
                "uncategorised."
            ),
        ),
        (
            "Recurring",
            (
                "Same payee and direction, at least three payments (two when yearly), four of five "
                "intervals of one rhythm, amounts typically within 30 % of their median. Expected "
                "is the last amount, or the median of the last six when it varies."
            ),
        ),
    ]
    return Section("provenance", "How these figures were made", [Notes(items)])


def _balance(facts: LedgerFacts) -> str:
    currency = facts.currency
    said = f"Opening {money.exact(facts.opening, currency)}: {facts.opening_how}."
    if facts.balances_checked:
        said += f" {facts.balances_checked:,} printed balances were checked against the movements: "
        said += (
            f"{facts.discrepancies_total:,} do not follow (listed above)."
            if facts.discrepancies_total
            else "all agree."
        )
    if facts.balances_unread:
        said += f" {facts.balances_unread:,} printed balances could not be read."
    return said
