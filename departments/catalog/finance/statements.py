"""Read a bank statement as banks export it into movements, losing no line silently.

Every record after the header ends in exactly one of three lists: `movements`, `unreadable` (with
line and reason) or `skipped` (recognised as no movement: repeated headers, totals, pending).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from departments.catalog.finance import amounts, balances, columns, dates, decoding, rows
from departments.catalog.finance.refusals import RefusedError
from departments.catalog.finance.rows import Problem, Row

if TYPE_CHECKING:
    import datetime as dt
    from decimal import Decimal

    from departments.catalog.finance.columns import Header

MAX_TEXT_CHARACTERS = 240
MAX_NAME_CHARACTERS = 120

_PENDING = frozenset({
    "pending", "vorgemerkt", "umsatz vorgemerkt", "reverted", "declined", "failed", "cancelled",
    "vormerkung", "vorgemerkter umsatz", "en attente", "pendiente", "in attesa",
})  # fmt: skip
_DEBIT_WORDS = frozenset(
    {"s", "d", "dr", "soll", "debit", "dbit", "af", "out", "lastschrift", "belastung"}
)
_CREDIT_WORDS = frozenset({"h", "c", "cr", "haben", "credit", "crdt", "bij", "in", "gutschrift"})


@dataclass(frozen=True, slots=True)
class Movement:
    """One booked movement of money: positive came in, negative went out."""

    line: int
    date: dt.date
    amount: Decimal
    payee: str
    text: str


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


@dataclass(slots=True)
class _Reading:
    """The state while rows are read: styles decided for the whole file, and the growing lists."""

    header: Header
    date_style: dates.DateStyle
    number_style: amounts.NumberStyle
    indicator: int | None
    debits_signed: bool
    currency: str
    unreadable: list[Problem]
    skipped: list[Problem]
    read: list[tuple[Movement, Decimal | None]] = field(default_factory=list)
    balances_unread: int = 0


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
    reading = _Reading(
        header=header,
        date_style=date_style,
        number_style=number_style,
        indicator=_indicator(found, header),
        debits_signed=_all_negative(rows.column(found, header, "debit")),
        currency=_currency(found, header, options.currency),
        unreadable=unreadable,
        skipped=skipped,
    )
    for row in found:
        _read_row(reading, row)
    if not reading.read:
        raise RefusedError("no_movements", _nothing_read(unreadable))
    return _statement(reading, decoded.encoding)


def _all_negative(cells: list[str]) -> bool:
    """Tell whether a debit column already carries the minus signs."""
    split = [amount for cell in cells if (amount := amounts.split(cell))]
    return bool(split) and all(a.negative or not a.digits.strip("0.,'") for a in split)


def _indicator(found: list[Row], header: Header) -> int | None:
    """Return the column that says debit or credit beside unsigned amounts, named or not."""
    if "amount" not in header.roles:
        return None
    if any((a := amounts.split(c)) and a.signed for c in rows.column(found, header, "amount")):
        return None
    taken = {index for role, index in header.roles.items() if role not in {"indicator", "kind"}}
    words = _DEBIT_WORDS | _CREDIT_WORDS
    for index in range(len(header.cells)):
        if index == header.roles.get("indicator"):
            return index
        values = {columns.fold(row.cells[index]) for row in found} if index not in taken else set()
        if values - {""} and values - {""} <= words and values & _DEBIT_WORDS:
            return index
    return None


def _currency(found: list[Row], header: Header, wanted: str | None) -> str:
    codes = Counter(cell.upper() for cell in rows.column(found, header, "currency"))
    if wanted:
        return wanted.upper()
    if len(codes) > 1:
        seen = ", ".join(f"{code[:8]} ({count} rows)" for code, count in codes.most_common(4))
        raise RefusedError(
            "currencies_mixed",
            f"Column “{header.name('currency')}” mixes currencies: {seen}. Amounts of different "
            "currencies cannot be added: pass currency to keep one, or export one account a file.",
        )
    if codes:
        return next(iter(codes))
    if header.currency:
        return header.currency
    beside = Counter(
        amount.currency
        for role in ("amount", "debit", "credit")
        for cell in rows.column(found, header, role)
        if (amount := amounts.split(cell)) and amount.currency
    )
    return beside.most_common(1)[0][0] if len(beside) == 1 else ""


def _read_row(reading: _Reading, row: Row) -> None:
    """Put one row into the list it belongs to."""
    header = reading.header
    status = header.roles.get("status")
    if status is not None and columns.fold(row.cells[status]) in _PENDING:
        reading.skipped.append(Problem(row.line, f"not booked (“{row.cells[status][:30]}”)"))
        return
    date = dates.parse(row.cells[header.roles["date"]], reading.date_style)
    amount = _amount(reading, row)
    reasons = [found for found in (date, amount) if isinstance(found, str)]
    currency = header.roles.get("currency")
    if currency is not None and row.cells[currency].upper() not in {"", reading.currency}:
        reasons.append(f"currency {row.cells[currency][:8]}, the report is in {reading.currency}")
    if reasons or isinstance(date, str) or isinstance(amount, str):
        reading.unreadable.append(Problem(row.line, "; ".join(reasons)))
        return
    payee, text = _who_and_what(header, row.cells, incoming=amount > 0)
    reading.read.append((Movement(row.line, date, amount, payee, text), _balance(reading, row)))


def _amount(reading: _Reading, row: Row) -> Decimal | str:
    roles, style = reading.header.roles, reading.number_style
    cell = row.cells[roles["amount"]] if "amount" in roles else ""
    if cell:
        amount = amounts.parse(cell, style)
        if isinstance(amount, str) or reading.indicator is None:
            return amount
        word = columns.fold(row.cells[reading.indicator])
        if word in _DEBIT_WORDS:
            return -amount
        return amount if word in _CREDIT_WORDS else "neither debit nor credit is marked"
    if not {"debit", "credit"} <= set(roles):
        return "no amount"
    return _debit_or_credit(reading, row)


def _debit_or_credit(reading: _Reading, row: Row) -> Decimal | str:
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


def _balance(reading: _Reading, row: Row) -> Decimal | None:
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
    kind = header.roles.get("kind")
    texts = [index for index in header.texts if cells[index] and index != kind]
    if not texts and kind is not None:  # a bare "card payment" says more than nothing
        texts = [kind]
    text = " · ".join(" ".join(cells[index].split()) for index in texts)
    sides = ("payee_in", "payee_out") if incoming else ("payee_out", "payee_in")
    for role in ("payee", *sides):
        index = header.roles.get(role)
        if index is not None and cells[index]:
            payee = " ".join(cells[index].split())
            return payee[:MAX_NAME_CHARACTERS], text[:MAX_TEXT_CHARACTERS]
    return text.split(" · ")[0][:MAX_NAME_CHARACTERS], text[:MAX_TEXT_CHARACTERS]


def _statement(reading: _Reading, encoding: str) -> Statement:
    ordered, check, newest_first = _oldest_first(reading.read)
    return Statement(
        movements=sorted((movement for movement, _ in ordered), key=lambda m: m.date),
        unreadable=sorted(reading.unreadable),
        skipped=sorted(reading.skipped),
        currency=reading.currency,
        balance=check,
        encoding=encoding,
        header=reading.header,
        dates_how=reading.date_style.how,
        numbers_how=reading.number_style.how,
        newest_first=newest_first,
        preamble_lines=reading.header.line - 1,
        balances_unread=reading.balances_unread,
    )


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
