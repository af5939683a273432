"""Say what the analysis found: headline figures, a few sentences, and the sections in order.

Both renderers (page and print) set this same structure, so they cannot differ in content.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from departments.catalog.finance import calendar_months, money, outlook, provenance, sections
from departments.catalog.finance.blocks import Figure, Report

if TYPE_CHECKING:
    from departments.catalog.finance.analysis import Analysis, MonthLine

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
    return Report(
        title=title,
        subtitle=f"{period} · {facts.movements:,} movements{currency} · {facts.file_name}",
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
    """Return what an owner would want to be told first, at most five sentences."""
    currency, months = analysis.facts.currency, analysis.months
    said: list[str] = []
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
        said.append(
            f"By the end of {calendar_months.title(end.month)} the balance is expected between "
            f"{money.whole(end.balance_low, currency)} and "
            f"{money.whole(end.balance_high, currency)}."
        )
    return said


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
