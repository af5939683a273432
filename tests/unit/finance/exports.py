"""Write ledgers the way banks export them, and run the report on them without an engine."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter

from departments.catalog.finance import cashflow
from engine.authoring import ArtifactRef

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

DATE_FORMATS = {
    "iso": "%Y-%m-%d",
    "dotted": "%d.%m.%Y",
    "dotted_short": "%d.%m.%y",
    "month_first": "%m/%d/%Y",
    "day_first": "%d/%m/%Y",
    "compact": "%Y%m%d",
    "timed": "%Y-%m-%dT%H:%M:%S",
}


class Entry(NamedTuple):
    date: dt.date
    payee: str
    text: str
    amount: Decimal


@dataclass(frozen=True)
class Variant:
    """One way to export: every bank is a point in this space."""

    delimiter: str = ";"
    comma: bool = True
    thousands: str = ""
    encoding: str = "utf-8"
    dates: str = "dotted"
    split: bool = False
    preamble: int = 0
    newline: str = "\r\n"
    balance: bool = False
    newest_first: bool = False
    sign: str = "front"


def write(entries: Sequence[Entry], variant: Variant, *, opening: Decimal = Decimal(0)) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=variant.delimiter, lineterminator=variant.newline)
    for line in range(variant.preamble):
        writer.writerow([f"Kontoinhaber {line}", "Müller & Söhne"])
    money = ["Soll", "Haben"] if variant.split else ["Betrag"]
    balance = ["Saldo"] if variant.balance else []
    writer.writerow(["Buchungstag", "Empfänger/Auftraggeber", "Verwendungszweck", *money, *balance])
    rows = []
    for entry in entries:
        opening += entry.amount
        cells = [
            entry.date.strftime(DATE_FORMATS[variant.dates]),
            entry.payee,
            entry.text,
            *_money(entry.amount, variant),
        ]
        rows.append([*cells, number(opening, variant)] if variant.balance else cells)
    writer.writerows(rows[::-1] if variant.newest_first else rows)
    return out.getvalue().encode(variant.encoding)


def _money(amount: Decimal, variant: Variant) -> list[str]:
    if not variant.split:
        return [number(amount, variant)]
    shown = number(abs(amount), variant)
    return [shown, ""] if amount < 0 else ["", shown]


def number(amount: Decimal, variant: Variant) -> str:
    text = f"{abs(amount):,.2f}".replace(",", "T").replace(".", "," if variant.comma else ".")
    text = text.replace("T", variant.thousands)
    if amount >= 0:
        return text
    return {"front": f"-{text}", "back": f"{text}-", "brackets": f"({text})"}[variant.sign]


class Folder:
    """An artifact store in memory, content-addressed like the engine's."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def save(self, name: str, content: bytes, media_type: str) -> ArtifactRef:
        digest = hashlib.sha256(content).hexdigest()
        self.content[digest] = content
        return ArtifactRef(sha256=digest, name=name, size=len(content), media_type=media_type)

    def read(self, ref: ArtifactRef) -> bytes:
        return self.content[ref.sha256]


@dataclass
class Context:
    """What the steps see of an engine."""

    artifacts: Folder = field(default_factory=Folder)
    warnings: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def checkpoint(self) -> None:
        """Never cancelled."""

    def warn(self, code: str, message: str, **data: Any) -> None:
        self.warnings.append((code, message, data))


@dataclass
class Finished:
    report: cashflow.CashflowReport
    context: Context
    ledger: cashflow.Ledger
    months: list[cashflow.MonthResult]

    def file(self, name: str) -> bytes:
        ref = getattr(self.report, name)
        assert ref is not None
        return self.context.artifacts.read(ref)


def until_join(content: bytes | None, **given: Any) -> tuple[Any, Any, Any]:
    """Run the steps before the join, each value passing through JSON as in the engine."""
    ctx: Any = Context()
    statement = ctx.artifacts.save("bank.csv", content, "text/csv") if content is not None else None
    inp = cashflow.CashflowInput(ledger=statement, **given)
    ledger = through_json(
        cashflow.Ledger,
        cashflow.read_ledger.declared.function(
            ctx,
            statement=inp.ledger,
            currency=inp.currency,
            opening_balance=inp.opening_balance,
            date_order=inp.date_order,
            decimal_mark=inp.decimal_mark,
        ),
    )
    months = [
        through_json(
            cashflow.MonthResult,
            cashflow.month_totals.declared.function(ctx, month=month, rules=inp.category_rules),
        )
        for month in cashflow.months_of.declared.function(ctx, rows=ledger)
    ]
    return ctx, ledger, months


def run(content: bytes | None, **given: Any) -> Finished:
    """Run the whole automation."""
    ctx, ledger, months = until_join(content, **given)
    title = given.get("title", cashflow.CashflowInput().title)
    report = cashflow.render_report.declared.function(ctx, totals=months, rows=ledger, title=title)
    return Finished(through_json(cashflow.CashflowReport, report), ctx, ledger, months)


def through_json(kind: Any, value: Any) -> Any:
    adapter = TypeAdapter(kind)
    return adapter.validate_json(adapter.dump_json(value))
