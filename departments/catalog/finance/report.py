"""Say what the analysis found: headline figures, a few sentences, and the sections in order.

Both renderers (page and print) set this same structure, so they cannot differ in content.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from departments.catalog.finance import calendar_months, money, outlook, provenance, sections
from departments.catalog.finance.analysis import gaps
from departments.catalog.finance.blocks import Figure, Report

if TYPE_CHECKING:
    from departments.catalog.finance.analysis import Analysis, MonthLine

ZERO = Decimal("0.00")
MAX_DOUBTS = 4
SAMPLE_NOTICE = (
    "Sample data: no file was given, so this report shows an invented business. "
    "Start the automation with your own bank statement to see yours."
)


def build(analysis: Analysis, *, title: str) -> Report:
    """Return the report of an analysis."""
    facts = analysis.facts
    period = (
        f"{calendar_months.day_title(facts.first_date)} \u2013 "
        f"{calendar_months.day_title(facts.last_date)}"
    )
    currency = f" · {facts.currency}" if facts.currency else ""
    movements = "movement" if facts.movements == 1 else "movements"
    return Report(
        title=title,
        subtitle=f"{period} · {facts.movements:,} {movements}{currency} · {facts.file_name}",
        notice=SAMPLE_NOTICE if facts.is_sample else "",
        figures=_figures(analysis),
        summary=_summary(analysis),
        sections=[
            sections.balance(analysis),
            sections.flows(analysis),
            sections.spending(analysis),
            *([sections.income(analysis)] if analysis.income else []),
            outlook.recurring(analysis),
            outlook.forecast(analysis),
            sections.months(analysis),
            *([sections.recent(analysis)] if analysis.spending else []),
            sections.largest(analysis),
            sections.left_out(analysis),
            provenance.section(analysis),
        ],
        footer=f"{title} · {period}",
    )


def _figures(analysis: Analysis) -> list[Figure]:
    total, currency = analysis.total, analysis.facts.currency
    count = len(analysis.months)
    closing = "Balance at the end" if analysis.facts.balance_known else "Change of balance"

    def a_month(amount: Decimal) -> str:
        return f"{money.whole(amount / count, currency)} a month" if count > 1 else "in one month"

    return [
        Figure(
            closing,
            money.exact(total.closing, currency),
            f"from {money.exact(total.opening, currency)} at the start"
            if analysis.facts.balance_known
            else "the file names no balance",
            negative=total.closing < 0,
        ),
        Figure("Income", money.exact(total.income, currency), a_month(total.income)),
        Figure("Spending", money.exact(-total.spending, currency), a_month(-total.spending)),
        Figure(
            "Net",
            money.exact(total.net, currency, plus=True),
            f"{money.percent(total.net, total.income)} of income"
            if total.income
            else "no income in this period",
            negative=total.net < 0,
        ),
    ]


def _summary(analysis: Analysis) -> list[str]:
    """Return what an owner would want to be told first: what to doubt, then what stands out."""
    currency, months = analysis.facts.currency, analysis.months
    said: list[str] = _doubts(analysis)
    red = [month for month in months if month.net < 0]
    if len(months) > 1:
        worst = min(months, key=lambda month: month.net)
        said.append(
            f"In {len(red) or 'none'} of {len(months)} months more went out than came in"
            + (
                f"; {calendar_months.title(worst.month)} was the weakest with "
                f"{money.whole(worst.net, currency)}."
                if red
                else "."
            )
        )
    said.extend(_year_on_year(analysis))
    if analysis.spending:
        top = analysis.spending[0]
        said.append(
            f"The largest part of spending is {top.name.lower()}: "
            f"{money.whole(-top.total, currency)}, "
            f"{money.percent(top.total, analysis.total.spending)} of all."
        )
    fixed = analysis.fixed_costs_a_month
    if fixed:
        said.append(
            f"Recurring payments now take {money.whole(-fixed, currency)} a month before anything "
            "else is bought."
        )
    if analysis.forecast.months:
        end = analysis.forecast.months[-1]
        known = analysis.facts.balance_known
        since = ZERO if known else analysis.total.closing
        low, high = (
            money.whole(balance - since, currency, plus=not known)
            for balance in (end.balance_low, end.balance_high)
        )
        expected = f"be between {low} and {high}" if known else f"change by {low} to {high}"
        said.append(
            f"By the end of {calendar_months.title(end.month)} the balance is expected to "
            f"{expected}."
        )
    return said


def _doubts(analysis: Analysis) -> list[str]:
    """Say on the face of the report what makes its figures incomplete or doubtful."""
    facts, closing = analysis.facts, analysis.total.closing
    said: list[str] = []
    printed = facts.printed_closing
    if printed is not None and printed != closing:
        bank, here = (money.exact(value, facts.currency) for value in (printed, closing))
        said.append(
            f"Careful: the last balance the bank printed is {bank}, by the movements it is {here}. "
            "Either movements are missing or some are not of this account: see the section on "
            "lines not in these figures."
        )
    if facts.unreadable_total:
        lines = "line" if facts.unreadable_total == 1 else "lines"
        verb = "is" if facts.unreadable_total == 1 else "are"
        said.append(
            f"{facts.unreadable_total:,} {lines} of the file could not be read and {verb} in no "
            "figure; the list is below."
        )
    for first, last in gaps(analysis.months):
        said.append(
            f"There is no movement from {calendar_months.title(first)} to "
            f"{calendar_months.title(last)}: a part of the file may be missing, or a date be wrong."
        )
    return said[:MAX_DOUBTS]


def _year_on_year(analysis: Analysis) -> list[str]:
    """Compare the last twelve months with the twelve before, when both are there."""
    recent, before = analysis.months[-12:], analysis.months[-24:-12]
    if len(before) < 12:  # noqa: PLR2004 - months
        return []

    def total(months: list[MonthLine], *, incoming: bool) -> Decimal:
        return sum((m.income if incoming else -m.spending for m in months), Decimal("0.00"))

    parts = []
    for name, incoming in (("income", True), ("spending", False)):
        now, then = total(recent, incoming=incoming), total(before, incoming=incoming)
        if then:
            word = "up" if now >= then else "down"
            parts.append(f"{name} is {word} {money.percent(abs(now - then), then)}")
    return [f"Against the twelve months before, {' and '.join(parts)}."] if parts else []
