"""Declare the finance department and its cash-flow report; the work is done by the modules beside.

read_ledger -> one month_totals step a month -> render_report. Only the first step reads the file;
each month's step loads its own month; the last one joins the totals and sets the report.
"""

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003 - resolved by the engine at run time
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from departments.catalog.finance import (
    analysis,
    categories,
    ledger,
    months,
    report,
    report_html,
    report_pdf,
    statements,
    table,
)
from departments.catalog.finance.refusals import RefusedError
from engine.authoring import (
    ArtifactRef,
    Retry,
    StepContext,
    StepError,
    automation,
    department,
    step,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FINANCE = department(
    "finance",
    title="Finance",
    purpose="Keeps the books readable: where money came from, where it went, what comes next.",
)

SAMPLE = Path(__file__).with_name("sample_ledger.csv")
CSV_TYPE = "text/csv; charset=utf-8"
READ_TIMEOUT_SECONDS = 300
MONTH_TIMEOUT_SECONDS = 120
RENDER_TIMEOUT_SECONDS = 300
_RETRY = Retry(attempts=3, first_delay=1.0, factor=2.0, max_delay=60.0, jitter=0.2)


class CashflowInput(BaseModel):
    """What to report on, and what the file itself may not tell."""

    model_config = ConfigDict(extra="forbid")

    ledger: ArtifactRef | None = Field(
        default=None,
        title="Bank statement",
        description="The statement as the bank exports it, CSV. Without one the report shows the "
        "shipped sample of an invented business, and says so.",
    )
    title: str = Field(
        default="Cash-flow report",
        min_length=1,
        max_length=120,
        description="Title on the report",
    )
    currency: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z]{3}$",
        description="Currency code such as EUR. Default: found in the file. With a file of several "
        "currencies only rows in this one are reported, the others are listed.",
    )
    opening_balance: Decimal | None = Field(
        default=None,
        max_digits=15,
        decimal_places=2,
        description="Balance before the first movement. Default: from the file's balance column; "
        "without one the balance begins at zero.",
    )
    date_order: Literal["auto", "dmy", "mdy"] = Field(
        default="auto",
        description="Order of day and month in dates like 03/04/2025. auto: decided from the whole "
        "column, or refused with the reason when nothing decides it.",
    )
    decimal_mark: Literal["auto", "comma", "point"] = Field(
        default="auto",
        description="Mark before the cents. auto: decided from all amounts, or refused with the "
        "reason when nothing decides it.",
    )
    category_rules: list[categories.CategoryRule] = Field(
        default_factory=list,
        max_length=100,
        description="Own rules for categories; they come before the built-in table.",
    )


class MonthSlice(BaseModel):
    """The movements of one month, stored as a file, and the balance the month opens with."""

    month: str
    opening: Decimal
    rows: ArtifactRef


class Ledger(BaseModel):
    """The statement as read: the facts about it, and a slice for each month with movements."""

    facts: analysis.LedgerFacts
    months: list[MonthSlice]
    unreadable_rows: ArtifactRef | None


class MonthResult(BaseModel):
    """One month's totals, and its lines of the CSV of all movements."""

    totals: months.MonthTotals
    lines: ArtifactRef


class CashflowReport(BaseModel):
    """The finished report: its files and its key figures. `income + spending == net`."""

    html: ArtifactRef
    pdf: ArtifactRef
    table: ArtifactRef
    months_table: ArtifactRef
    unreadable_rows: ArtifactRef | None
    is_sample: bool
    currency: str
    first_date: str
    last_date: str
    months: int
    movements: int
    unreadable: int
    opening_balance: Decimal
    income: Decimal
    spending: Decimal
    net: Decimal
    closing_balance: Decimal
    recurring_payments: int
    forecast_months: int


@step(retry=_RETRY, timeout=READ_TIMEOUT_SECONDS)
def read_ledger(  # noqa: PLR0917 - called by name only
    ctx: StepContext,
    statement: ArtifactRef | None,
    currency: str | None,
    opening_balance: Decimal | None,
    date_order: Literal["auto", "dmy", "mdy"],
    decimal_mark: Literal["auto", "comma", "point"],
) -> Ledger:
    """Read the statement, report what cannot be read, and cut it into months."""
    content = ctx.artifacts.read(statement) if statement else SAMPLE.read_bytes()
    options = statements.Options(date_order, decimal_mark, currency)
    with _refusals():
        read = statements.read(content, options)
    facts = ledger.facts(
        read,
        content=content,
        file_name=statement.name if statement else SAMPLE.name,
        is_sample=statement is None,
        opening_balance=opening_balance,
    )
    unreadable = _report_unreadable(ctx, read, facts) if read.unreadable else None
    slices: list[MonthSlice] = []
    with _refusals():
        for month in ledger.split(read.movements, opening=facts.opening):
            ctx.checkpoint()
            name = f"movements-{month.name}.csv"
            rows = ctx.artifacts.save(name, months.dump(month.movements), CSV_TYPE)
            slices.append(MonthSlice(month=month.name, opening=month.opening, rows=rows))
    return Ledger(facts=facts, months=slices, unreadable_rows=unreadable)


@step(retry=_RETRY)
def months_of(ctx: StepContext, rows: Ledger) -> list[MonthSlice]:  # noqa: ARG001 - a step's form
    """List the months to add up, one step each."""
    return rows.months


@step(retry=_RETRY, timeout=MONTH_TIMEOUT_SECONDS)
def month_totals(
    ctx: StepContext, month: MonthSlice, rules: list[categories.CategoryRule]
) -> MonthResult:
    """Add up one month: by category, by day, its largest movements."""
    totals, lines = months.total(
        month=month.month,
        opening=month.opening,
        movements=months.load(ctx.artifacts.read(month.rows)),
        categoriser=categories.Categoriser(rules),
    )
    ref = ctx.artifacts.save(f"table-{month.month}.csv", lines, CSV_TYPE)
    return MonthResult(totals=totals, lines=ref)


@step(retry=_RETRY, timeout=RENDER_TIMEOUT_SECONDS)
def render_report(
    ctx: StepContext, totals: list[MonthResult], rows: Ledger, title: str
) -> CashflowReport:
    """Join the months, check that everything adds up, and write the report's files."""
    joined = analysis.join(rows.facts, [month.totals for month in totals])
    ctx.checkpoint()
    built = report.build(joined, title=title)
    html = ctx.artifacts.save("report.html", report_html.page(built), "text/html; charset=utf-8")
    ctx.checkpoint()
    pdf = ctx.artifacts.save("report.pdf", report_pdf.document(built), "application/pdf")
    facts, total = rows.facts, joined.total
    return CashflowReport(
        html=html,
        pdf=pdf,
        table=ctx.artifacts.save("table.csv", _whole_table(ctx, totals), CSV_TYPE),
        months_table=ctx.artifacts.save("months.csv", table.months(joined), CSV_TYPE),
        unreadable_rows=rows.unreadable_rows,
        is_sample=facts.is_sample,
        currency=facts.currency,
        first_date=facts.first_date.isoformat(),
        last_date=facts.last_date.isoformat(),
        months=len(joined.months),
        movements=facts.movements,
        unreadable=facts.unreadable_total,
        opening_balance=total.opening,
        income=total.income,
        spending=total.spending,
        net=total.net,
        closing_balance=total.closing,
        recurring_payments=sum(series.active for series in joined.recurring),
        forecast_months=len(joined.forecast.months),
    )


@automation(
    "finance.cashflow_report", title="Cash-flow report", input=CashflowInput, on_dead="block"
)
def cashflow_report(inp: CashflowInput) -> CashflowReport:
    """Read a bank statement and write a cash-flow report: HTML and PDF with charts, tables as CSV.

    Income, spending by category, running balance, largest movements, recurring payments, and a
    forecast of three months with its measured uncertainty. Lines that cannot be read are listed.
    """
    rows = read_ledger(
        statement=inp.ledger,
        currency=inp.currency,
        opening_balance=inp.opening_balance,
        date_order=inp.date_order,
        decimal_mark=inp.decimal_mark,
    )
    by_month = month_totals.partial(rules=inp.category_rules).map(month=months_of(rows=rows))
    finished: CashflowReport = render_report(totals=by_month, rows=rows, title=inp.title)
    return finished


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a refused file into a permanent error of the step: retrying cannot help."""
    try:
        yield
    except RefusedError as refused:
        raise StepError(refused.code, refused.message, permanent=True) from refused


def _report_unreadable(
    ctx: StepContext, read: statements.Statement, facts: analysis.LedgerFacts
) -> ArtifactRef:
    """Leave the unreadable lines on the run: all as a file, the first hundred as a warning."""
    total = facts.unreadable_total
    lines = f"{total:,} lines" if total > 1 else f"Line {facts.unreadable[0].line}"
    ctx.warn(
        "rows_unreadable",
        f"{lines} of the statement could not be read and are in no figure of the report.",
        total=total,
        rows=[line.model_dump() for line in facts.unreadable],
    )
    return ctx.artifacts.save("unreadable-rows.csv", ledger.unreadable_csv(read), CSV_TYPE)


def _whole_table(ctx: StepContext, totals: Sequence[MonthResult]) -> bytes:
    ordered = sorted(totals, key=lambda month: month.totals.month)
    parts = [ctx.artifacts.read(month.lines) for month in ordered]
    return table.header(table.MOVEMENT_COLUMNS) + b"".join(parts)
