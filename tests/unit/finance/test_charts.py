"""Charts: round ticks, labels apart, nothing outside the picture."""

import datetime as dt
import itertools
import re
from decimal import Decimal

import pytest

from departments.catalog.finance import charts, money
from departments.catalog.finance.analysis import MonthLine
from departments.catalog.finance.calendar_months import after
from departments.catalog.finance.months import DayBalance

D = Decimal
WIDTHS = (960, 680, 350)


def month_lines(count):
    return [
        MonthLine(after("2015-11", n), D(0), D(1000 + n), D(-900), D(0), 1) for n in range(count)
    ]


def labels(svg, anchor):
    found = re.findall(rf'<text x="([\d.]+)" y="\d+" text-anchor="{anchor}">([^<]+)<', svg)
    return [(float(x), text) for x, text in found]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [1, 2, 12, 26, 60, 130, 400])
def test_flows__month_labels_never_touch(count, width):
    svg, _ = charts.flows(month_lines(count), currency="EUR", width=width)
    placed = labels(svg, "middle")

    assert placed
    for (x, text), (following, _) in itertools.pairwise(placed):
        assert x + len(text) * 6.3 / 2 < following - len(text) * 6.3 / 2
    assert all(x + len(text) * 6.3 / 2 <= width for x, text in placed)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("days", [1, 20, 59, 400, 1900, 9000])
@pytest.mark.parametrize("sign", [1, -1])
def test_balance__stays_inside_and_labels_never_touch(days, width, sign):
    points = [
        DayBalance(date=dt.date(2001, 3, 7) + dt.timedelta(days=n), balance=D(sign * n * 37))
        for n in range(0, days, max(days // 700, 1))
    ]
    svg = charts.balance(points, forecast=[], currency="EUR", width=width, name="x")
    height = int(re.search(r'viewBox="0 0 \d+ (\d+)"', svg)[1])
    line = re.search(r'class="line" d="([^"]+)"', svg)[1]

    assert all(0 <= float(y) <= height for y in re.findall(r"V(-?[\d.]+)", line))
    assert all(0 <= float(x) <= width for x in re.findall(r"H(-?[\d.]+)", line))
    placed = labels(svg, "middle")
    for (x, text), (following, _) in itertools.pairwise(placed):
        assert x + len(text) * 6.3 / 2 < following - len(text) * 6.3 / 2


def test_categories__many_become_one_bar_and_keep_the_sum():
    lines = [(f"Category {n}", D(100 - n)) for n in range(30)]
    svg = charts.categories(lines, total=D(2565), currency="EUR", width=960)
    shown = [D(v.replace(",", "")) for v in re.findall(r'class="strong"[^>]*>€([\d,]+)<', svg)]

    assert "17 more categories" in svg
    assert sum(shown) == 2565


def test_categories__names_are_escaped():
    assert "<b>" not in charts.categories([("<b>x", D(1))], total=D(1), currency="", width=350)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([D(0)], ["0", "20", "40", "60", "80", "100"]),
        ([D(-3), D(7)], ["-4", "-2", "0", "2", "4", "6", "8"]),
        ([D("0.02")], ["0.000", "0.005", "0.010", "0.015", "0.020"]),
    ],
)
def test_scale__round_ticks_cover_values_and_zero(values, ticks):
    assert [str(tick) for tick in charts.scale(values).ticks] == ticks


@pytest.mark.parametrize(
    ("amount", "exact", "whole", "short"),
    [
        ("-1234.5", "\u2212€1,234.50", "\u2212€1,234", "\u2212€1.23k"),
        ("0", "€0.00", "€0", "€0"),
        ("2500000", "€2,500,000.00", "€2,500,000", "€2.5m"),
        ("-0.4", "\u2212€0.40", "€0", "\u2212€0.4"),
    ],
)
def test_money__is_written_for_people(amount, exact, whole, short):
    assert money.exact(D(amount), "EUR") == exact
    assert money.whole(D(amount), "EUR") == whole
    assert money.short(D(amount), "EUR") == short
    assert money.exact(D("-5"), "CHF") == "\u2212CHF\u00a05.00"


def test_balance__first_label_names_the_year_when_no_january_does():
    points = [
        DayBalance(date=dt.date(2020, 2, 2) + dt.timedelta(days=n), balance=D(n))
        for n in range(300)
    ]
    svg = charts.balance(points, forecast=[], currency="EUR", width=350, name="x")

    assert re.search(r'text-anchor="(?:start|middle)">([A-Z][a-z]{2} 2020)<', svg)


def test_balance__unknown_height_has_nothing_below():
    points = [DayBalance(date=dt.date(2020, 2, 2), balance=D(-9))]
    svg = charts.balance(
        points, forecast=[], currency="EUR", width=350, name="x", marks_below=False
    )

    assert 'class="below"' not in svg
