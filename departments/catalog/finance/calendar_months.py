"""Reckon with months written `2024-03`."""

from __future__ import annotations

import calendar
import datetime as dt

# Not calendar.month_abbr: that one follows the locale of the process.
_NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def after(month: str, count: int) -> str:
    """Return the month `count` months later (earlier when negative)."""
    number = int(month[:4]) * 12 + int(month[5:]) - 1 + count
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def last_day(month: str) -> dt.date:
    """Return the last day of a month."""
    year, number = int(month[:4]), int(month[5:])
    return dt.date(year, number, calendar.monthrange(year, number)[1])


def between(first: str, last: str) -> list[str]:
    """Return all months from first to last, both included."""
    months = [first]
    while months[-1] < last:
        months.append(after(months[-1], 1))
    return months


def title(month: str) -> str:
    """Return a month as people write it: `Mar 2024`."""
    return f"{_NAMES[int(month[5:]) - 1]} {month[:4]}"


def day_title(date: dt.date) -> str:
    """Return a date as people write it: `5 Mar 2024`."""
    return f"{date.day} {_NAMES[date.month - 1]} {date.year}"
