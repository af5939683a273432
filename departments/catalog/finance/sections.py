"""Build the report's sections from the analysis: what each chart and table says."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from departments.catalog.finance import calendar_months, charts, money
from departments.catalog.finance.analysis import RECENT_MONTHS, years
from departments.catalog.finance.blocks import (
    PAGE_WIDTH,
    Block,
    Chart,
    Column,
    Prose,
    Row,
    Section,
    Table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from departments.catalog.finance.analysis import Analysis, CategoryLine, Line, MonthLine
    from departments.catalog.finance.months import Largest

TEXT_CHARACTERS = 60
ZERO = Decimal("0.00")


def balance(analysis: Analysis) -> Section:
    """Show the running balance day by day, with the forecast behind it."""
    currency = analysis.facts.currency
    lowest = analysis.lowest
    below = sum(month.closing < 0 for month in analysis.months)
    said = (
        f"Lowest at the end of a day: {money.exact(lowest.balance, currency)} on "
        f"{calendar_months.day_title(lowest.date)}."
    )
    if below and analysis.facts.balance_known:
        said += f" {below} of {len(analysis.months)} months ended below zero."
    if not analysis.facts.balance_known:
        said += (
            " The file names no balance, so the line begins at zero: its shape counts, "
            "not its height."
        )
    if analysis.forecast.months:
        said += " Dashed: the forecast, with its range."
    chart = Chart(
        f"Line chart of the running balance. {said}",
        lambda width, name: charts.balance(
            analysis.days,
            forecast=analysis.forecast.months,
            currency=currency,
            width=width,
            name=f"balance-{name}",
            marks_below=analysis.facts.balance_known,
        ),
    )
    return Section("balance", "Running balance", [Prose(said), chart])


def flows(analysis: Analysis) -> Section:
    """Show income beside spending for each month."""
    currency = analysis.facts.currency
    unit = charts.flows(analysis.months, currency=currency, width=PAGE_WIDTH)[1]
    best = max(analysis.months, key=lambda month: month.net)
    said = (
        f"Best month: {calendar_months.title(best.month)}, "
        f"{money.exact(best.net, currency, plus=True)}."
    )
    chart = Chart(
        f"Bar chart of income and spending by {unit}. {said} All figures are in the month table.",
        lambda width, _: charts.flows(analysis.months, currency=currency, width=width)[0],
    )
    is_telling = len(analysis.months) > 1 and best.net > 0
    blocks: list[Block] = [Prose(said), chart] if is_telling else [chart]
    return Section("income-and-spending", "Income and spending", blocks)


def spending(analysis: Analysis) -> Section:
    """Show where the money went."""
    currency, total = analysis.facts.currency, analysis.total.spending
    if not analysis.spending:
        return Section("spending", "Where the money went", [Prose("Nothing was spent.")])
    chart = Chart(
        "Bar chart of spending by category; the table below has the same figures.",
        lambda width, _: charts.categories(
            [(line.name, -line.total) for line in analysis.spending],
            total=total,
            currency=currency,
            width=width,
        ),
    )
    table = _category_table("Spending by category", analysis.spending, analysis, sign=-1)
    blocks: list[Block] = [chart, table]
    if analysis.uncategorised:
        blocks.append(
            Prose(
                f"No rule knows {analysis.uncategorised:,} outgoing movements; own rules "
                "(input field category_rules) sort them."
            )
        )
    return Section("spending", "Where the money went", blocks)


def income(analysis: Analysis) -> Section:
    """Show where the money came from."""
    table = _category_table("Income by category", analysis.income, analysis, sign=1)
    return Section("income", "Where the money came from", [table])


def _category_table(
    caption: str, lines: Sequence[CategoryLine], analysis: Analysis, *, sign: int
) -> Table:
    total = sum((line.total for line in lines), ZERO)
    count = len(analysis.months)
    recent = [month.month for month in analysis.months[-RECENT_MONTHS:]]
    columns = [Column("Category", "label"), Column("Total", "number"), Column("Share", "number")]
    columns += [Column("A month", "number")]
    if count > RECENT_MONTHS:
        columns.append(Column("Last 12 months", "number"))

    def row(name: str, amount: Decimal, months: Iterable[Decimal], *, is_sum: bool = False) -> Row:
        cells = [
            name,
            money.exact(amount * sign),
            money.percent(amount, total),
            money.exact(amount * sign / count),
        ]
        if count > RECENT_MONTHS:
            cells.append(money.exact(sum(months, ZERO) * sign))
        return Row(cells, is_sum=is_sum)

    rows = [
        row(line.name, line.total, [line.by_month.get(m, ZERO) for m in recent]) for line in lines
    ]
    everything = [line.by_month.get(m, ZERO) for line in lines for m in recent]
    rows.append(row("Total", total, everything, is_sum=True))
    return Table(money.captioned(caption, analysis.facts.currency), columns, rows)


def months(analysis: Analysis) -> Section:
    """List every month, with sums by year, each adding up to the cent."""
    columns = [
        Column("Month", "label"),
        Column("Opening", "number"),
        Column("Income", "number"),
        Column("Spending", "number"),
        Column("Net", "number"),
        Column("Closing", "number"),
    ]
    rows: list[Row] = []
    for year in years(analysis.months):
        of_year = [month for month in analysis.months if month.month[:4] == year.month]
        rows.extend(_month_row(m, calendar_months.title(m.month)) for m in of_year)
        if len(of_year) > 1 and len(of_year) < len(analysis.months):
            rows.append(_month_row(year, year.month, is_sum=True))
    rows.append(_month_row(analysis.total, "Total", is_sum=True))
    table = Table(
        money.captioned("Opening + income \u2212 spending = closing", analysis.facts.currency),
        columns,
        rows,
    )
    return Section("months", "Month by month", [table])


def _month_row(month: MonthLine, name: str, *, is_sum: bool = False) -> Row:
    cells = [
        name,
        money.exact(month.opening),
        money.exact(month.income),
        money.exact(-month.spending),
        money.exact(month.net, plus=True),
        money.exact(month.closing),
    ]
    return Row(cells, is_sum=is_sum)


def recent(analysis: Analysis) -> Section:
    """Show spending by category and month for the last year."""
    shown = analysis.months[-RECENT_MONTHS:]
    columns = [Column("Category", "label")]
    columns += [Column(calendar_months.title(month.month)[:3], "number") for month in shown]
    columns.append(Column("Sum", "wide number"))
    sums = [-month.spending for month in shown]
    unit, unit_name = money.unit(max(map(abs, sums)), digits=6)
    rows = []
    for line in analysis.spending:
        amounts = [-line.by_month.get(month.month, ZERO) for month in shown]
        if any(amounts):
            rows.append(Row([line.name, *_whole_row(amounts, unit)]))
    rows.append(Row(["All spending", *_whole_row(sums, unit)], is_sum=True))
    first, last = (calendar_months.title(m.month) for m in (shown[0], shown[-1]))
    period = first if first == last else f"{first} to {last}"
    caption = money.captioned(f"{period}, rounded to {unit_name}", analysis.facts.currency)
    return Section(
        "recent", "Spending by category and month", [Table(caption, columns, rows, dense=True)]
    )


def _whole_row(amounts: Sequence[Decimal], unit: Decimal) -> list[str]:
    cells = [money.whole(amount / unit) if amount else "\u2013" for amount in amounts]
    return [*cells, money.whole(sum(amounts, ZERO) / unit)]


def largest(analysis: Analysis) -> Section:
    """List the largest single movements each way."""
    blocks: list[Block] = []
    for name, group in (
        ("Largest outgoing", analysis.largest_out),
        ("Largest incoming", analysis.largest_in),
    ):
        if group:
            blocks.append(_largest_table(money.captioned(name, analysis.facts.currency), group))
    return Section("largest", "Largest movements", blocks)


def _largest_table(caption: str, group: Sequence[Largest]) -> Table:
    has_text = any(m.text not in {"", m.payee} for m in group)
    columns = [
        Column("Date", "label"),
        Column("Payee"),
        *([Column("Text")] if has_text else []),
        Column("Category"),
        Column("Amount", "number"),
    ]
    rows = [
        Row(
            [
                calendar_months.day_title(m.date),
                m.payee[:TEXT_CHARACTERS],
                *(["" if m.text == m.payee else m.text[:TEXT_CHARACTERS]] if has_text else []),
                m.category,
                money.exact(abs(m.amount)),
            ]
        )
        for m in group
    ]
    return Table(caption, columns, rows)


def left_out(analysis: Analysis) -> Section:
    """List the lines of the file that are in no figure, with the reason for each."""
    facts = analysis.facts
    blocks: list[Block] = []
    for total, lines, name, more in (
        (
            facts.unreadable_total,
            facts.unreadable,
            "Lines that could not be read",
            "The full list is in unreadable-rows.csv.",
        ),
        (
            facts.skipped_total,
            facts.skipped,
            "Lines that are no movements",
            "Later ones are of the same kinds.",
        ),
        (
            facts.discrepancies_total,
            facts.discrepancies,
            "Balances that do not follow from the movements",
            "Further ones are left out here.",
        ),
    ):
        if total:
            blocks.append(_line_table(f"{name}: {total:,}", lines))
            if total > len(lines):
                blocks.append(Prose(f"Shown are the first {len(lines)}. {more}"))
    if not facts.unreadable_total:
        blocks.insert(0, Prose("Every line with a movement could be read."))
    return Section("left-out", "Lines not in these figures", blocks)


def _line_table(caption: str, lines: Sequence[Line]) -> Table:
    columns = [Column("Line", "label"), Column("Reason")]
    return Table(caption, columns, [Row([f"{item.line}", item.reason]) for item in lines])
