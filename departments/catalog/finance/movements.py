"""Turn one row of a statement into a movement, or say why it is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from departments.catalog.finance import amounts, columns, currencies, dates, signs
from departments.catalog.finance.rows import Problem, Row

if TYPE_CHECKING:
    import datetime as dt
    from decimal import Decimal

    from departments.catalog.finance.columns import Header

MAX_TEXT_CHARACTERS = 240
MAX_NAME_CHARACTERS = 120
_LONG_WORD = 12

_PENDING = (
    "pending", "vorgemerkt", "umsatz vorgemerkt", "reverted", "declined", "failed", "cancelled",
    "vormerkung", "vorgemerkter umsatz", "en attente", "pendiente", "in attesa", "denied",
    "canceled", "expired", "ausstehend", "abgelehnt", "storniert", "nicht gebucht",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Movement:
    """One booked movement of money: positive came in, negative went out."""

    line: int
    date: dt.date
    amount: Decimal
    payee: str
    text: str


@dataclass(slots=True)
class Reading:
    """The state while rows are read: styles decided for the whole file, and the growing lists."""

    header: Header
    date_style: dates.DateStyle
    number_style: amounts.NumberStyle
    indicator: int | None
    debits_signed: bool
    currency: currencies.Currency
    unreadable: list[Problem]
    skipped: list[Problem]
    fees: dict[int, Decimal] = field(default_factory=dict)
    read: list[tuple[Movement, Decimal | None]] = field(default_factory=list)
    balances_unread: int = 0


def read(reading: Reading, row: Row) -> None:
    """Put one row into the list it belongs to."""
    header = reading.header
    status = header.roles.get("status")
    if status is not None and columns.fold(row.cells[status]).startswith(_PENDING):
        reading.skipped.append(Problem(row.line, f"not booked (“{row.cells[status][:30]}”)"))
        return
    if _is_part(header, row):
        reading.skipped.append(Problem(row.line, "part of a collective booking, counted there"))
        return
    date = dates.parse(row.cells[header.roles["date"]], reading.date_style)
    amount = _amount(reading, row)
    reasons = [found for found in (date, amount) if isinstance(found, str)]
    other = _other_currency(reading, row)
    if other:
        reasons.append(f"currency {other[:8]}, the report is in {reading.currency.code}")
    if reasons or isinstance(date, str) or isinstance(amount, str):
        reading.unreadable.append(Problem(row.line, "; ".join(reasons)))
        return
    fee = _fee(reading, row)
    if fee:
        reading.fees[row.line] = fee
    payee, text = _who_and_what(header, row.cells, incoming=amount > 0)
    reading.read.append((Movement(row.line, date, amount, payee, text), _balance(reading, row)))


def _is_part(header: Header, row: Row) -> bool:
    """Tell whether a row itemises a collective booking (UBS): its sum stands in a row above."""
    part = header.roles.get("part")
    if part is None or not row.cells[part]:
        return False
    money = [header.roles[role] for role in currencies.MONEY_ROLES if role in header.roles]
    return not any(row.cells[index] for index in money)


def _other_currency(reading: Reading, row: Row) -> str:
    """Return the row's currency, named or beside the amount, if the report is in another."""
    roles, wanted = reading.header.roles, reading.currency.code
    index = roles.get("currency")
    code = amounts.code(row.cells[index]) if index is not None else ""
    if not code and reading.currency.is_mixed:
        cells = (row.cells[roles[role]] for role in currencies.MONEY_ROLES if role in roles)
        beside = (amount.currency for cell in cells if (amount := amounts.split(cell)))
        code = next(filter(None, beside), "")
    return "" if not code or currencies.is_same(code, wanted) else code


def _fee(reading: Reading, row: Row) -> Decimal | None:
    """Return the fee printed beside the amount, if there is one that can be read."""
    index = reading.header.roles.get("fee")
    if index is None or not row.cells[index]:
        return None
    fee = amounts.parse(row.cells[index], reading.number_style)
    return None if isinstance(fee, str) else abs(fee)


def _amount(reading: Reading, row: Row) -> Decimal | str:
    roles, style = reading.header.roles, reading.number_style
    cell = row.cells[roles["amount"]] if "amount" in roles else ""
    if cell:
        amount = amounts.parse(cell, style)
        if isinstance(amount, str) or reading.indicator is None:
            return amount
        word = columns.fold(row.cells[reading.indicator])
        if word in signs.DEBIT_WORDS:
            return -amount
        return amount if word in signs.CREDIT_WORDS else "neither debit nor credit is marked"
    if not {"debit", "credit"} <= set(roles):
        return "no amount"
    return _debit_or_credit(reading, row)


def _debit_or_credit(reading: Reading, row: Row) -> Decimal | str:
    roles, style = reading.header.roles, reading.number_style
    found: list[Decimal] = []
    for role in ("debit", "credit"):
        cell = row.cells[roles[role]]
        if not cell or not cell.strip("-\u2013\u2014 "):
            continue
        amount = amounts.parse(cell, style)
        if isinstance(amount, str):
            return amount
        found.append(-amount if role == "debit" and not reading.debits_signed else amount)
    moved = [amount for amount in found if amount]
    if len(moved) > 1:
        return "both debit and credit are filled"
    if not found:
        return "no amount"
    return moved[0] if moved else abs(found[0])


def _balance(reading: Reading, row: Row) -> Decimal | None:
    index = reading.header.roles.get("balance")
    if index is None or not row.cells[index]:
        return None
    balance = amounts.parse(row.cells[index], reading.number_style)
    if isinstance(balance, str):
        reading.balances_unread += 1
        return None
    return balance


def _who_and_what(header: Header, cells: list[str], *, incoming: bool) -> tuple[str, str]:
    """Return payee and text; without a payee column the text begins with the payee."""
    texts = [index for index in header.texts if cells[index]]
    telling = [index for index in texts if not _is_word_of_sign(cells[index])]
    # A bare "card payment" or "deposit" says more than nothing.
    texts = telling or [index for index in header.kinds if cells[index]] or texts
    text = " · ".join(" ".join(cells[index].split()) for index in texts)
    sides = ("payee_in", "payee_out") if incoming else ("payee_out", "payee_in")
    for role in ("payee", *sides):
        index = header.roles.get(role)
        if index is not None and cells[index]:
            payee = " ".join(cells[index].split())
            return payee[:MAX_NAME_CHARACTERS], text[:MAX_TEXT_CHARACTERS]
    return text.split(" · ")[0][:MAX_NAME_CHARACTERS], text[:MAX_TEXT_CHARACTERS]


def _is_word_of_sign(cell: str) -> bool:
    """Tell whether a text only says debit or credit, as the column Details of Chase does."""
    return len(cell) < _LONG_WORD and columns.fold(cell) in signs.DEBIT_WORDS | signs.CREDIT_WORDS
