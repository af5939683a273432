"""Build the sections that look ahead: what recurs, and the next three months."""

from __future__ import annotations

from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING

from departments.catalog.finance import calendar_months, money
from departments.catalog.finance.analysis import RECENT_MONTHS
from departments.catalog.finance.blocks import Block, Column, Prose, Row, Section, Table
from departments.catalog.finance.forecast import RECURRING_METHOD, SEASONAL_METHOD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from departments.catalog.finance.analysis import Analysis
    from departments.catalog.finance.recurring import Series

MAX_RECURRING = 40
MAX_ENDED = 10
PAYEE_CHARACTERS = 60
ZERO = Decimal("0.00")


def recurring(analysis: Analysis) -> Section:
    """List the payments that come back, and what they cost in a year."""
    running = [s for s in analysis.recurring if s.active]
    ended = [s for s in analysis.recurring if not s.active]
    blocks: list[Block] = []
    for name, group in (
        ("Recurring spending", [s for s in running if s.expected < 0]),
        ("Recurring income", [s for s in running if s.expected > 0]),
    ):
        if group:
            blocks.append(_running_table(money.captioned(name, analysis.facts.currency), group))
    if ended:
        blocks.append(
            _ended_table(money.captioned("No longer seen", analysis.facts.currency), ended)
        )
    if not blocks:
        blocks.append(Prose("None found: no payee was paid at a regular interval three times."))
    return Section("recurring", "Recurring payments", blocks)


def _running_table(caption: str, group: Sequence[Series]) -> Table:
    columns = [
        Column("Payee"),
        Column("Rhythm", "label"),
        Column("Expected", "number"),
        Column("A year", "number"),
        Column("Next", "number"),
        Column("Seen", "number"),
        Column("Remark", "text"),
    ]
    shown = group[:MAX_RECURRING]
    rows = [
        Row(
            [
                series.payee[:PAYEE_CHARACTERS],
                series.rhythm,
                money.exact(abs(series.expected)),
                money.exact(abs(series.a_year)),
                calendar_months.day_title(next(series.due())),
                f"{len(series.payments)}\u00d7",
                _remark(series),
            ]
        )
        for series in shown
    ]
    rest = group[MAX_RECURRING:]
    if rest:
        a_year = money.exact(abs(sum((s.a_year for s in rest), ZERO)))
        rows.append(Row([f"{len(rest)} more", "", "", a_year, "", "", ""]))
    a_year = money.exact(abs(sum((s.a_year for s in group), ZERO)))
    rows.append(Row(["Total", "", "", a_year, "", "", ""], is_sum=True))
    return Table(caption, columns, rows)


def _remark(series: Series) -> str:
    if not series.fixed:
        low, high = sorted((abs(series.lowest), abs(series.highest)))
        return f"varies, {money.whole(low)} to {money.whole(high)}"
    change = series.change
    if change is None:
        return "same amount"
    word = "rose" if abs(series.payments[-1].amount) > abs(series.payments[0].amount) else "fell"
    return f"{word} from {money.exact(abs(series.payments[0].amount))}"


def _ended_table(caption: str, ended: Sequence[Series]) -> Table:
    columns = [
        Column("Payee"),
        Column("Rhythm", "label"),
        Column("Last amount", "number"),
        Column("Last seen", "number"),
    ]
    rows = [
        Row(
            [
                series.payee[:PAYEE_CHARACTERS],
                series.rhythm,
                money.exact(series.payments[-1].amount),
                calendar_months.day_title(series.last),
            ]
        )
        for series in sorted(ended, key=lambda s: s.last, reverse=True)[:MAX_ENDED]
    ]
    return Table(caption, columns, rows)


def forecast(analysis: Analysis) -> Section:
    """Show the next three months, how they were forecast, and how wrong that usually is."""
    result, currency = analysis.forecast, analysis.facts.currency
    if not result.months:
        return Section("forecast", "The next three months", [Prose(result.reason)])
    known = analysis.facts.balance_known
    columns = [
        Column("Month", "label"),
        Column("Income", "number"),
        Column("Spending", "number"),
        Column("Net", "number"),
        Column("Net likely between", "wide number"),
        Column("Balance at end" if known else "Sum since start", "number"),
        Column("Likely between", "wide number"),
    ]
    shown = [m for f in result.months for m in (f.income, f.balance_low, f.balance_high)]
    size, unit = money.unit(max(map(abs, shown)), digits=8)

    def whole(amount: Decimal, *, plus: bool = False) -> str:
        return money.whole(amount / size, plus=plus)

    rows = [
        Row(
            [
                calendar_months.title(m.month) + (" (whole)" if m.month == result.begun else ""),
                whole(m.income),
                whole(-m.spending),
                whole(m.net, plus=True),
                f"{whole(m.net_low)} … {whole(m.net_high)}",
                whole(m.balance),
                f"{whole(m.balance_low)} … {whole(m.balance_high)}",
            ]
        )
        for m in result.months
    ]
    how = (
        "the recurring payments that fall due, plus the median of all other income and spending "
        "of the last twelve months"
        if result.method == RECURRING_METHOD
        else "the same month a year before"
    )
    said = [
        f"Method: {how}.",
        (
            f"Tried on this ledger's own past, with only what was known then, it was wrong by "
            f"{money.whole(result.mean_error, currency)} a month on average "
            f"({result.errors} forecasts over {result.complete_months} complete months)."
        ),
    ]
    if result.other_mean_error is not None:
        said.append(
            f"The other method tried, {result.other_method}, was wrong by "
            f"{money.whole(result.other_mean_error, currency)}."
        )
    else:
        said.append(
            "A second method, the same month a year before, is tried when the ledger is long "
            "enough."
        )
    said.extend(_largest_step(analysis))
    said.append(
        f"The ranges held about {result.coverage_percent} % of those past errors; they are a "
        "guide, not a promise, and know nothing of plans that left no trace on the account."
    )
    if result.balance_range == "cautious":
        said.append("The range of the balance is wide: it adds the monthly errors up.")
    if result.begun:
        said.append(
            f"{calendar_months.title(result.begun)} is only partly in the file: what is booked up "
            f"to {calendar_months.day_title(analysis.facts.last_date)} stands, and for the days "
            "left the forecast's share of a whole month is added."
        )
    table = Table(money.captioned(f"Forecast, {unit}", analysis.facts.currency), columns, rows)
    return Section("forecast", "The next three months", [table, Prose(" ".join(said))])


def _largest_step(analysis: Analysis) -> list[str]:
    """Explain the month that moves the balance most, when it stands out from a usual month.

    A forecast from the year before repeats that year's season, and its one-offs: the reader has to
    see which it is.
    """
    result, currency = analysis.forecast, analysis.facts.currency
    if result.method != SEASONAL_METHOD:
        return []
    nets = {month.month: month.net for month in analysis.months}
    usual = median(list(nets.values())[-RECENT_MONTHS:])
    step = max(result.months, key=lambda month: abs(month.net - usual))
    if abs(step.net - usual) <= 2 * result.mean_error:
        return []

    def net(month: str) -> str:
        return f"{calendar_months.title(month)} ({money.whole(nets[month], currency, plus=True)})"

    before, earlier = (calendar_months.after(step.month, -months) for months in (12, 24))
    said = (
        f"The step in {calendar_months.title(step.month)} "
        f"({money.whole(step.net, currency, plus=True)}, a usual month brings "
        f"{money.whole(Decimal(usual), currency, plus=True)}) repeats {net(before)}"
    )
    if earlier not in nets:
        return [f"{said}; with one such month on record it may have been a one-off."]
    return [f"{said}; the year before that, {net(earlier)}. One-offs are repeated like seasons."]
