"""Draw the report's charts as plain SVG: exact, without scripts, the same for page and print.

Colours and fonts come by class from a style sheet: the page's own (light or dark) or, for print,
one put inside. All numbers stay decimal up to the coordinate.
"""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from departments.catalog.finance import calendar_months, money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from departments.catalog.finance.analysis import MonthLine
    from departments.catalog.finance.forecast import ForecastMonth
    from departments.catalog.finance.months import DayBalance

FONT_SIZE = 11
CHARACTER_WIDTH = Decimal("6.3")
"""Mean advance of Inter at `FONT_SIZE`, rounded up: labels never touch."""
MIN_LABEL_GAP = 54
MIN_SLOT = 9
"""A narrower slot for a pair of bars becomes a quarter, then a year."""
MAX_CATEGORIES = 14
ZERO = Decimal(0)

PRINT_STYLE = """
text{font-family:Inter;font-size:11px;fill:#5b6470}
.strong{font-weight:600;fill:#16202b}.grid{stroke:#e3e6ea}.zero{stroke:#8a939e}
.in{fill:#1f7a6d}.out{fill:#c8693a}.line{fill:none;stroke:#24507a;stroke-width:1.3}
.area{fill:#24507a;fill-opacity:.09}.below{fill:#b3372f;fill-opacity:.2}
.fan{fill:#24507a;fill-opacity:.14}
.dash{fill:none;stroke:#24507a;stroke-width:1.3;stroke-dasharray:4 3}
.dot{fill:#24507a}.lowdot{fill:#b3372f}.track{fill:#eef0f3}
"""


class Scale(NamedTuple):
    """A value axis: its ends and the ticks between them."""

    low: Decimal
    high: Decimal
    ticks: list[Decimal]

    def y(self, value: Decimal, *, top: int, height: int) -> Decimal:
        """Return the coordinate of a value in a plot of this height."""
        return top + (self.high - value) / (self.high - self.low) * height


def scale(values: Sequence[Decimal], *, ticks: int = 5) -> Scale:
    """Return round ticks that cover all values and zero."""
    low, high = min([*values, ZERO]), max([*values, ZERO])
    if low == high:
        high = Decimal(100)
    rough = (high - low) / ticks
    size = Decimal(10) ** rough.adjusted()
    step = next(size * m for m in (1, 2, Decimal("2.5"), 5, 10) if size * m >= rough)
    first = (low / step).to_integral_value(ROUND_FLOOR)
    last = (high / step).to_integral_value(ROUND_CEILING)
    marks = [step * n for n in range(int(first), int(last) + 1)]
    return Scale(marks[0], marks[-1], marks)


def balance(
    days: Sequence[DayBalance],
    *,
    forecast: Sequence[ForecastMonth],
    currency: str,
    width: int,
    name: str,
    marks_below: bool = True,
) -> str:
    """Draw the running balance, and the forecast with its range behind it."""
    height, top, bottom, right = (250 if width > 500 else 220), 14, 24, 12  # noqa: PLR2004 - px
    ends = [calendar_months.last_day(month.month) for month in forecast]
    values = [day.balance for day in days]
    axis = scale(values + [v for m in forecast for v in (m.balance_low, m.balance_high)])
    left = _axis_width(axis, currency)
    first, last = days[0].date, max([days[-1].date, *ends])
    span = max((last - first).days, 1)
    plot = height - top - bottom

    def x(date: dt.date) -> Decimal:
        return left + Decimal((date - first).days) / span * (width - left - right)

    def y(value: Decimal) -> Decimal:
        return axis.y(value, top=top, height=plot)

    points = _thin([(x(day.date), y(day.balance)) for day in days])
    line = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(
        f"H{px:.1f}V{py:.1f}" for px, py in points[1:]
    )
    line += f"H{points[-1][0] + (4 if len(points) == 1 else 0):.1f}"
    zero, under = y(ZERO), "below" if marks_below else "area"
    area = f"{line}V{zero:.1f}H{points[0][0]:.1f}Z"
    parts = [
        _value_axis(axis, currency, left=left, right=width - right, top=top, plot=plot),
        _date_axis(first, last, left=left, width=width - left - right, y=height - 8),
        (
            f'<clipPath id="{name}-up"><rect x="0" y="0" width="{width}" '
            f'height="{zero:.1f}"/></clipPath>'
            f'<clipPath id="{name}-down"><rect x="0" y="{zero:.1f}" width="{width}" '
            f'height="{height}"/></clipPath>'
        ),
        f'<path class="area" clip-path="url(#{name}-up)" d="{area}"/>',
        f'<path class="{under}" clip-path="url(#{name}-down)" d="{area}"/>',
    ]
    if forecast:
        start = (x(days[-1].date), y(days[-1].balance))
        xs = [x(end) for end in ends]
        highs = list(zip(xs, (y(m.balance_high) for m in forecast), strict=True))
        lows = list(zip(xs, (y(m.balance_low) for m in forecast), strict=True))
        middles = list(zip(xs, (y(m.balance) for m in forecast), strict=True))
        parts.append(f'<path class="fan" d="{_polyline([start, *highs, *lows[::-1]])}Z"/>')
        parts.append(f'<path class="dash" d="{_polyline([start, *middles])}"/>')
    parts.append(f'<path class="line" d="{line}"/>')
    lowest = min(days, key=lambda day: day.balance)
    parts.append(
        f'<circle class="lowdot" cx="{x(lowest.date):.1f}" cy="{y(lowest.balance):.1f}" r="3"/>'
    )
    return _svg(width, height, "".join(parts))


def flows(months: Sequence[MonthLine], *, currency: str, width: int) -> tuple[str, str]:
    """Draw income and spending side by side; return the SVG and what one pair of bars covers."""
    height, top, bottom, right = (240 if width > 500 else 210), 30, 24, 12  # noqa: PLR2004 - px
    slots, unit = _slots(months, room=width - 80)
    axis = scale([v for _, income, spending in slots for v in (income, spending)])
    left = _axis_width(axis, currency)
    plot = height - top - bottom
    slot = Decimal(width - left - right) / len(slots)
    bar = min(max(slot * Decimal("0.38"), Decimal("1.5")), Decimal(26))
    zero = axis.y(ZERO, top=top, height=plot)
    by = "" if unit == "month" else f", by {unit}"
    parts = [
        (
            f'<rect class="in" x="{left}" y="4" width="10" height="10" rx="2"/>'
            f'<text x="{left + 15}" y="13">Income</text>'
            f'<rect class="out" x="{left + 70}" y="4" width="10" height="10" rx="2"/>'
            f'<text x="{left + 85}" y="13">Spending{by}</text>'
        ),
        _value_axis(axis, currency, left=left, right=width - right, top=top, plot=plot),
    ]
    every = max(1, -(-MIN_LABEL_GAP // max(int(slot), 1)))
    for index, (label, income, spending) in enumerate(slots):
        middle = left + slot * index + slot / 2
        gap = Decimal("0.6") if slot > MIN_SLOT else ZERO
        for kind, value, at in (
            ("in", income, middle - bar - gap),
            ("out", spending, middle + gap),
        ):
            if value > 0:
                y = axis.y(value, top=top, height=plot)
                parts.append(
                    f'<rect class="{kind}" x="{at:.1f}" y="{y:.1f}" width="{bar:.1f}" '
                    f'height="{max(zero - y, Decimal("0.5")):.1f}"/>'
                )
        if index % every == 0 and middle + len(label) * CHARACTER_WIDTH / 2 <= width:
            parts.append(
                f'<text x="{middle:.1f}" y="{height - 8}" text-anchor="middle">{label}</text>'
            )
    return _svg(width, height, "".join(parts)), unit


def categories(
    lines: Sequence[tuple[str, Decimal]], *, total: Decimal, currency: str, width: int
) -> str:
    """Draw one bar a category, largest first; the smallest of many become one bar."""
    shown = list(lines)
    if len(shown) > MAX_CATEGORIES:
        rest = shown[MAX_CATEGORIES - 1 :]
        others = (f"{len(rest)} more categories", sum((v for _, v in rest), ZERO))
        shown = [*shown[: MAX_CATEGORIES - 1], others]
    wide = width > 500  # noqa: PLR2004 - px
    amounts = [money.whole(value, currency) for _, value in shown]
    right = int(max(len(text) for text in amounts) * 7 + (58 if wide else 8))
    left = 190 if wide else 154
    row, largest = 24, max(abs(value) for _, value in shown) or Decimal(1)
    room = Decimal(width - left - right - 10)
    parts = []
    for index, ((name, value), text) in enumerate(zip(shown, amounts, strict=True)):
        y = index * row
        bar = max(abs(value) / largest * room, Decimal(1))
        label = _cut(name, left - 10)
        parts.append(
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(label)}</text>'
            f'<rect class="track" x="{left}" y="{y + 6}" width="{room:.1f}" height="13" rx="2"/>'
            f'<rect class="out" x="{left}" y="{y + 6}" width="{bar:.1f}" height="13" rx="2"/>'
            f'<text class="strong" x="{width - (50 if wide else 0)}" y="{y + 16}" '
            f'text-anchor="end">{escape(text)}</text>'
        )
        if wide:
            share = money.percent(abs(value), abs(total))
            parts.append(f'<text x="{width}" y="{y + 16}" text-anchor="end">{share}</text>')
    return _svg(width, len(shown) * row + 4, "".join(parts))


def for_print(svg: str) -> str:
    """Return the same chart with its own colours, for renderers without the page's style sheet."""
    return svg.replace(">", f"><style>{PRINT_STYLE}</style>", 1)


def _slots(
    months: Sequence[MonthLine], *, room: int
) -> tuple[list[tuple[str, Decimal, Decimal]], str]:
    """Group months so that each pair of bars has room: by month, quarter or year."""
    for size, unit in ((1, "month"), (3, "quarter"), (12, "year")):
        groups: dict[str, tuple[Decimal, Decimal]] = {}
        for month in months:
            name = _slot_name(month.month, size)
            income, spending = groups.get(name, (ZERO, ZERO))
            groups[name] = (income + month.income, spending - month.spending)
        if room // len(groups) >= MIN_SLOT or unit == "year":
            return [(name, *values) for name, values in groups.items()], unit
    raise AssertionError("a year always fits")


def _slot_name(month: str, size: int) -> str:
    if size == 1:
        return f"{calendar_months.title(month)[:3]} {month[2:4]}"
    if size == 3:  # noqa: PLR2004 - a quarter
        return f"Q{(int(month[5:]) + 2) // 3} {month[2:4]}"
    return month[:4]


def _value_axis(axis: Scale, currency: str, *, left: int, right: int, top: int, plot: int) -> str:
    parts = []
    for tick in axis.ticks:
        y = axis.y(tick, top=top, height=plot)
        kind = "zero" if tick == 0 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(money.short(tick, currency))}</text>"
        )
    return "".join(parts)


def _axis_width(axis: Scale, currency: str) -> int:
    longest = max(len(money.short(tick, currency)) for tick in axis.ticks)
    return int(longest * CHARACTER_WIDTH) + 14


def _date_axis(first: dt.date, last: dt.date, *, left: int, width: int, y: int) -> str:
    """Label months so far apart that labels never touch; January carries the year."""
    months = calendar_months.between(first.isoformat()[:7], last.isoformat()[:7])
    span = max((last - first).days, 1)
    a_month = Decimal(width) * 30 / max(span, 30)
    every = next((n for n in (1, 2, 3, 6, 12, 24, 60, 120) if n * a_month >= MIN_LABEL_GAP), 240)
    parts: list[str] = []
    for month in months:
        number = int(month[:4]) * 12 + int(month[5:]) - 1
        start = dt.date.fromisoformat(f"{month}-01")
        x = left + Decimal((start - first).days) / span * width
        is_alone = len(months) == 1
        if not is_alone and (number % every or x < left - 1 or x > left + width - 24):
            continue
        label = month[:4] if month.endswith("-01") and every > 1 else calendar_months.title(month)
        if parts and not month.endswith("-01") and every > 1:
            label = label[:3]  # the year stands at the first label and at each January
        anchor = "middle" if x > left + 20 else "start"
        parts.append(
            f'<text x="{max(x, Decimal(left)):.1f}" y="{y}" text-anchor="{anchor}">{label}</text>'
        )
    return "".join(parts)


def _thin(points: list[tuple[Decimal, Decimal]]) -> list[tuple[Decimal, Decimal]]:
    """Keep first, highest, lowest and last point of each pixel column: the picture stays equal."""
    kept: list[tuple[Decimal, Decimal]] = []
    column: list[tuple[Decimal, Decimal]] = []
    for point in [*points, None]:
        if point is not None and (not column or int(point[0]) == int(column[0][0])):
            column.append(point)
            continue
        extremes = {
            column[0],
            min(column, key=lambda p: p[1]),
            max(column, key=lambda p: p[1]),
            column[-1],
        }
        kept.extend(p for p in dict.fromkeys(column) if p in extremes)
        column = [point] if point is not None else []
    return kept


def _polyline(points: Sequence[tuple[Decimal, Decimal]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _cut(text: str, room: int) -> str:
    fits = int(room / CHARACTER_WIDTH)
    return text if len(text) <= fits else f"{text[: fits - 1].rstrip()}…"


def _svg(width: int, height: int, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-size="{FONT_SIZE}">{content}</svg>'
    )
