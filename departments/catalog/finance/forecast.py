"""Forecast three months, and measure on the ledger itself how wrong that way of forecasting is.

Two methods compete. A: the recurring payments known to fall due, plus the median of what else came
in and went out in the last twelve months. B: the same month a year before. Both forecast every
past month they could have forecast, knowing only what came before it; the one with the smaller mean
error wins. The range around the forecast comes from these past errors (empirical quantiles, no
assumption about their distribution).
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from itertools import takewhile
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from departments.catalog.finance import calendar_months, recurring

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

HORIZON_MONTHS = 3
MIN_COMPLETE_MONTHS = 10
"""Six months to learn from and enough after them to see nine errors: an 80 % range needs nine."""
LEARNING_MONTHS = 6
REST_MONTHS = 12
MAX_ORIGINS = 24
"""Past months the methods are tried from; older ones say little about today."""
COVERAGE = Decimal("0.80")
ZERO = Decimal("0.00")
CENT = Decimal("0.01")

RECURRING_METHOD = "recurring payments plus the usual rest"
SEASONAL_METHOD = "same month a year before"


class MonthFlow(NamedTuple):
    """What one complete month brought: income, and spending as a negative number."""

    month: str
    income: Decimal
    spending: Decimal


class Begun(NamedTuple):
    """A month the ledger covers in part: what is booked, and the share of its days to come."""

    month: str
    income: Decimal
    spending: Decimal
    share_left: Decimal


class ForecastMonth(BaseModel):
    """One forecast month: `income + spending == net`, and where net and balance likely end up."""

    month: str
    income: Decimal
    spending: Decimal
    net: Decimal
    net_low: Decimal
    net_high: Decimal
    balance: Decimal
    balance_low: Decimal
    balance_high: Decimal


class Forecast(BaseModel):
    """Three forecast months with method and measured error; or the reason why there is none."""

    months: list[ForecastMonth] = []
    begun: str = ""
    reason: str = ""
    method: str = ""
    complete_months: int = 0
    errors: int = 0
    mean_error: Decimal = ZERO
    other_method: str = ""
    other_mean_error: Decimal | None = None
    coverage_percent: int = 0
    balance_range: str = ""


class _Errors(NamedTuple):
    """Actual minus forecast net: one each by horizon, and their running sums by origin."""

    single: list[list[Decimal]]
    summed: list[list[Decimal]]

    @property
    def all(self) -> list[Decimal]:
        return [error for errors in self.single for error in errors]

    @property
    def mean(self) -> Decimal:
        return sum((abs(e) for e in self.all), ZERO) / len(self.all)


_Flow = tuple[Decimal, Decimal]


def forecast(
    flows: Sequence[MonthFlow],
    payments: Sequence[recurring.Payment],
    *,
    balance: Decimal,
    begun: Begun | None = None,
) -> Forecast:
    """Forecast the three months after the last of `flows`, or after the month already begun.

    flows: complete months without gaps, oldest first. payments: candidates for recurring payments
    (`recurring.candidates`). balance: at the end of the last complete month. begun: a month after
    it that the ledger covers in part, forecast as a fourth month: what is booked stands, so that
    the forecast never contradicts what is known; the rest is a share by days of the whole month.
    """
    complete = len(flows)
    horizon = HORIZON_MONTHS + (begun is not None)
    if complete < MIN_COMPLETE_MONTHS:
        return Forecast(
            complete_months=complete,
            reason=f"A forecast needs at least {MIN_COMPLETE_MONTHS} complete months "
            f"({LEARNING_MONTHS} to learn from, the others to measure its error); this ledger has "
            f"{complete}.",
        )
    by_month = _by_month(payments)
    tried = {RECURRING_METHOD: _try(flows, by_month, RECURRING_METHOD, horizon)}
    if complete >= REST_MONTHS + MIN_COMPLETE_MONTHS - LEARNING_MONTHS:
        tried[SEASONAL_METHOD] = _try(flows, by_month, SEASONAL_METHOD, horizon)
    usable = {name: errors for name, errors in tried.items() if len(errors.all) >= _needed()}
    method = min(usable, key=lambda name: usable[name].mean)
    others = [name for name in usable if name != method]
    errors = usable[method]
    predicted = _predict(flows, by_month, method, horizon)
    if begun is not None:
        predicted[0] = _finish(begun, predicted[0])
    return Forecast(
        months=_months(flows, predicted, errors, balance),
        begun=begun.month if begun else "",
        method=method,
        complete_months=complete,
        errors=len(errors.all),
        mean_error=errors.mean.quantize(CENT),
        other_method=others[0] if others else "",
        other_mean_error=usable[others[0]].mean.quantize(CENT) if others else None,
        coverage_percent=int(COVERAGE * 100),
        balance_range="summed errors"
        if all(len(summed) >= _needed() for summed in errors.summed)
        else "cautious",
    )


def _needed() -> int:
    """Return how many errors a two-sided range of this coverage takes: (n + 1) x 10 % >= 1."""
    return int(2 / (1 - COVERAGE)) - 1


def _by_month(payments: Sequence[recurring.Payment]) -> dict[str, list[recurring.Payment]]:
    grouped: defaultdict[str, list[recurring.Payment]] = defaultdict(list)
    for payment in payments:
        grouped[payment.date.isoformat()[:7]].append(payment)
    return grouped


def _try(
    flows: Sequence[MonthFlow],
    by_month: dict[str, list[recurring.Payment]],
    method: str,
    horizon: int,
) -> _Errors:
    """Forecast from each past month with what was known then; return the errors."""
    first = LEARNING_MONTHS if method == RECURRING_METHOD else REST_MONTHS
    errors = _Errors([[] for _ in range(horizon)], [[] for _ in range(horizon)])
    for origin in range(max(first, len(flows) - MAX_ORIGINS), len(flows)):
        predicted = _predict(flows[:origin], by_month, method, horizon)
        running = ZERO
        for step, (actual, (income, spending)) in enumerate(
            zip(flows[origin:], predicted, strict=False)
        ):
            error = actual.income + actual.spending - income - spending
            running += error
            errors.single[step].append(error)
            errors.summed[step].append(running)
    return errors


def _predict(
    known: Sequence[MonthFlow],
    by_month: dict[str, list[recurring.Payment]],
    method: str,
    horizon: int,
) -> list[_Flow]:
    """Forecast income and spending of the months after `known`."""
    if method == SEASONAL_METHOD:
        year_before = known[-REST_MONTHS:]
        return [(flow.income, flow.spending) for flow in year_before[:horizon]]
    until = calendar_months.last_day(known[-1].month)
    payments = [payment for flow in known for payment in by_month.get(flow.month, ())]
    active = [series for series in recurring.find(payments, until=until) if series.active]
    incoming, outgoing = _usual_rest(known[-REST_MONTHS:], active)
    following = [calendar_months.after(known[-1].month, n + 1) for n in range(horizon)]
    expected = _due(active, following)
    return [(incoming + expected[m][0], outgoing + expected[m][1]) for m in following]


def _finish(begun: Begun, whole: _Flow) -> _Flow:
    """Return a begun month's flow: what is booked, and the rest of the days as usual."""
    income, spending = ((flow * begun.share_left).quantize(CENT) for flow in whole)
    return begun.income + income, begun.spending + spending


def _usual_rest(recent: Sequence[MonthFlow], active: Sequence[recurring.Series]) -> _Flow:
    """Return the median of income and of spending that is not recurring."""
    paid: defaultdict[str, list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    for series in active:
        for payment in series.payments:
            paid[payment.date.isoformat()[:7]][payment.amount < 0] += payment.amount
    incoming = median(flow.income - paid[flow.month][0] for flow in recent)
    outgoing = median(flow.spending - paid[flow.month][1] for flow in recent)
    return Decimal(incoming).quantize(CENT), Decimal(outgoing).quantize(CENT)


def _due(active: Sequence[recurring.Series], following: Sequence[str]) -> dict[str, _Flow]:
    """Add up the recurring payments expected in each of the following months."""
    sums = {month: [ZERO, ZERO] for month in following}
    end = calendar_months.last_day(following[-1])
    for series in active:
        for date in takewhile(lambda day: day <= end, series.due()):
            month = date.isoformat()[:7]
            if month in sums:
                sums[month][series.expected < 0] += series.expected
    return {month: (income, spending) for month, (income, spending) in sums.items()}


def _months(
    flows: Sequence[MonthFlow], predicted: Sequence[_Flow], errors: _Errors, balance: Decimal
) -> list[ForecastMonth]:
    low, high = bounds(errors.all)
    months: list[ForecastMonth] = []
    for step, (income, spending) in enumerate(predicted):
        balance += income + spending
        summed = errors.summed[step]
        # Few errors at this distance: as if all months erred to the same side.
        below, above = bounds(summed) if len(summed) >= _needed() else (low, high)
        if len(summed) < _needed():
            below, above = below * (step + 1), above * (step + 1)
        months.append(
            ForecastMonth(
                month=calendar_months.after(flows[-1].month, step + 1),
                income=income,
                spending=spending,
                net=income + spending,
                net_low=income + spending + low,
                net_high=income + spending + high,
                balance=balance,
                balance_low=balance + below,
                balance_high=balance + above,
            )
        )
    return months


def bounds(errors: Sequence[Decimal]) -> tuple[Decimal, Decimal]:
    """Return the errors that cut off a tenth at each end, never narrower than zero.

    The k-th smallest and largest with k = floor((n + 1) x 10 %): order statistics cover a new error
    with at least this probability when errors are exchangeable (split conformal prediction, Vovk et
    al.). Errors of overlapping forecasts are not quite that, so the report calls it a guide.
    """
    ordered = sorted(errors)
    cut = max(int((len(ordered) + 1) * (1 - COVERAGE) / 2), 1)
    return min(ordered[cut - 1], ZERO), max(ordered[-cut], ZERO)


def complete_months(
    flows: Sequence[MonthFlow], *, first_day: dt.date, last_day: dt.date, slack_days: int = 4
) -> Sequence[MonthFlow]:
    """Leave out a first or last month the ledger covers only in part.

    A month counts as covered when a movement lies within `slack_days` of its border.
    """
    begin = 0 if first_day.day <= slack_days + 1 else 1
    uncovered = (calendar_months.last_day(flows[-1].month) - last_day).days > slack_days
    return flows[begin : len(flows) - uncovered]
