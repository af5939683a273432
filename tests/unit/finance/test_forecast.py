"""The forecast: what it takes, which method wins, and that its ranges come from past errors."""

import datetime as dt
import random
from decimal import Decimal

from departments.catalog.finance import calendar_months, forecast
from departments.catalog.finance.forecast import MonthFlow
from departments.catalog.finance.recurring import Payment

D = Decimal


def flows(pairs, start="2022-01"):
    return [
        MonthFlow(calendar_months.after(start, n), D(income), D(-spending))
        for n, (income, spending) in enumerate(pairs)
    ]


def test_forecast__too_little_data_is_said_and_not_forecast():
    result = forecast.forecast(flows([(100, 90)] * 9), [], balance=D(0))

    assert result.months == []
    assert "at least 10 complete months" in result.reason
    assert "has 9" in result.reason


def test_forecast__steady_ledger_goes_on_without_uncertainty():
    result = forecast.forecast(flows([(100, 90)] * 12), [], balance=D(500))

    assert [m.month for m in result.months] == ["2023-01", "2023-02", "2023-03"]
    assert [(m.income, m.spending, m.net) for m in result.months] == [(100, -90, 10)] * 3
    assert [m.balance for m in result.months] == [510, 520, 530]
    assert [(m.net_low, m.net_high) for m in result.months] == [(10, 10)] * 3
    assert result.mean_error == 0


def test_forecast__one_outlier_does_not_move_the_median():
    pairs = [(100, 90)] * 14
    pairs[9] = (100, 9000)

    result = forecast.forecast(flows(pairs), [], balance=D(0))

    assert result.months[0].spending == D(-90)
    assert result.months[0].net_low < result.months[0].net


def test_forecast__recurring_payment_falls_into_its_month():
    days = [dt.date(2022, 2, 15) + dt.timedelta(days=round(91.3 * n)) for n in range(5)]
    payments = [Payment(key="tax", payee="Tax", date=d, amount=D(-300)) for d in days]
    months = {d.isoformat()[:7] for d in days}
    ledger = [
        MonthFlow(f.month, f.income, f.spending - (300 if f.month in months else 0))
        for f in flows([(100, 50)] * 15)
    ]

    result = forecast.forecast(ledger, payments, balance=D(0))

    assert result.method == forecast.RECURRING_METHOD
    assert [m.spending for m in result.months] == [D(-50), D(-350), D(-50)]


def test_forecast__seasonal_ledger_is_forecast_from_the_year_before():
    chance = random.Random(1)
    pairs = [(1000 + 900 * (n % 12 == 11) + chance.randint(-9, 9), 800) for n in range(34)]

    result = forecast.forecast(flows(pairs), [], balance=D(0))

    assert result.method == forecast.SEASONAL_METHOD
    assert result.mean_error < result.other_mean_error
    assert result.months[1].month == "2024-12"
    assert result.months[1].income > 1800


def test_forecast__range_widens_with_the_noise():
    def width(noise):
        chance = random.Random(7)
        pairs = [(1000 + chance.randint(-noise, noise), 900) for _ in range(30)]
        month = forecast.forecast(flows(pairs), [], balance=D(0)).months[0]
        return month.net_high - month.net_low

    assert 0 < width(10) * 5 < width(100)


def test_forecast__range_covers_about_its_share_of_new_months():
    hits = tried = 0
    for seed in range(30):
        chance = random.Random(seed)
        pairs = [(1000 + chance.randint(-200, 200), 900) for _ in range(33)]
        result = forecast.forecast(flows(pairs[:30]), [], balance=D(0))
        for month, (income, spending) in zip(result.months, pairs[30:], strict=True):
            tried += 1
            hits += month.net_low <= income - spending <= month.net_high

    assert result.coverage_percent == 80
    assert 0.68 < hits / tried < 0.95


def test_forecast__month_begun_keeps_what_is_booked_and_adds_the_days_left():
    begun = forecast.Begun("2023-01", D(20), D(-700), D("0.5"))
    result = forecast.forecast(flows([(100, 90)] * 12), [], balance=D(0), begun=begun)

    assert result.begun == "2023-01"
    assert [m.month for m in result.months] == ["2023-01", "2023-02", "2023-03", "2023-04"]
    assert [(m.income, m.spending) for m in result.months[:2]] == [(70, -745), (100, -90)]
    assert [m.balance for m in result.months[:2]] == [-675, -665]


def test_bounds__cut_a_tenth_at_each_end():
    assert forecast.bounds([D(n) for n in range(-9, 10)]) == (D(-8), D(8))
    assert forecast.bounds([D(n) for n in range(1, 10)]) == (D(0), D(9))


def test_complete_months__cut_months_covered_in_part():
    months = flows([(1, 1)] * 3, start="2024-01")

    def complete(first, last):
        kept = forecast.complete_months(
            months, first_day=dt.date.fromisoformat(first), last_day=dt.date.fromisoformat(last)
        )
        return [flow.month[-2:] for flow in kept]

    assert complete("2024-01-02", "2024-03-29") == ["01", "02", "03"]
    assert complete("2024-01-20", "2024-03-29") == ["02", "03"]
    assert complete("2024-01-02", "2024-03-10") == ["01", "02"]
