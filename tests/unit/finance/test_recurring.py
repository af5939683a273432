"""Recurring payments: what is one, what is none, what comes next."""

import datetime as dt
from decimal import Decimal
from itertools import islice

from departments.catalog.finance import recurring
from departments.catalog.finance.movements import Movement
from departments.catalog.finance.recurring import Payment

D = Decimal
END = dt.date(2025, 1, 5)


def payments(payee, dates, amounts):
    key = recurring.key(payee)
    return [
        Payment(key=key, payee=payee, date=date, amount=D(str(amount)))
        for date, amount in zip(dates, amounts, strict=True)
    ]


def monthly(count, day=3):
    return [dt.date(2024, month, day) for month in range(13 - count, 13)]


def find(items, until=END):
    return recurring.find(items, until=until)


def test_find__same_amount_every_month():
    (series,) = find(payments("Netflix", monthly(6), [-12.99] * 6))

    assert (series.rhythm, series.expected, series.fixed) == ("monthly", D("-12.99"), True)
    assert series.a_year == D("-155.88")
    assert series.active
    assert series.change is None
    assert next(series.due()) == dt.date(2025, 1, 3)


def test_find__month_end_stays_month_end_after_february():
    days = [dt.date(2023, 10, 31), dt.date(2023, 11, 30), dt.date(2023, 12, 31)]
    (series,) = find(payments("Rent", days, [-900] * 3), until=dt.date(2024, 1, 2))

    assert list(islice(series.due(), 3)) == [
        dt.date(2024, 1, 31),
        dt.date(2024, 2, 29),
        dt.date(2024, 3, 31),
    ]


def test_find__price_rise_is_one_series_and_told():
    (series,) = find(payments("Gym", monthly(8), [-30] * 4 + [-35] * 4))

    assert series.fixed
    assert series.expected == D("-35.00")
    assert series.change == D(-5)


def test_find__varying_bill_expects_the_median_of_the_last_six():
    amounts = [-100, -80, -90, -110, -95, -105, -85]
    (series,) = find(payments("Power", monthly(7), amounts))

    assert not series.fixed
    assert series.expected == D("-92.50")
    assert (series.lowest, series.highest) == (D(-80), D(-110))


def test_find__two_contracts_of_one_payee_are_told_apart():
    items = payments("Telco", monthly(6), [-10] * 6) + payments("Telco", monthly(6, 20), [-40] * 6)

    assert sorted(series.expected for series in find(items)) == [D("-40.00"), D("-10.00")]


def test_find__rhythms():
    steps = {"weekly": 7, "fortnightly": 14, "quarterly": 91, "half-yearly": 182, "yearly": 365}
    for name, days in steps.items():
        dates = [END - dt.timedelta(days=days * n) for n in range(4)][::-1]
        (series,) = find(payments("P", dates, [-5] * 4))
        assert series.rhythm == name


def test_find__not_recurring():
    irregular = [
        dt.date(2024, 1, 3),
        dt.date(2024, 1, 20),
        dt.date(2024, 4, 2),
        dt.date(2024, 9, 9),
    ]
    assert find(payments("Shop", irregular, [-5] * 4)) == []
    assert find(payments("Wild", monthly(6), [-5, -500, -30, -2000, -80, -7000])) == []
    assert find(payments("Twice", monthly(2), [-5] * 2)) == []
    yearly = [dt.date(2023, 5, 1), dt.date(2024, 5, 1)]
    assert find(payments("Chance", yearly, [-100, -108])) == []
    assert len(find(payments("Insurance", yearly, [-100, -100]))) == 1


def test_find__payment_that_stopped_is_not_active():
    (series,) = find(payments("Old", monthly(6), [-5] * 6), until=dt.date(2025, 6, 1))

    assert not series.active


def test_key__references_do_not_split_a_payee():
    assert recurring.key("Telekom 4711-AB12") == "telekom"
    assert recurring.key("TELEKOM 9938-XY77") == "telekom"


def test_candidates__a_till_with_many_movements_is_left_out():
    def movement(day, payee):
        return Movement(1, dt.date(2024, 1, day), D(-5), payee, "")

    till = [movement(day, "Till") for day in range(1, 8)]
    rent = [movement(1, "Rent")]

    assert [payment.payee for payment in recurring.candidates(till + rent)] == ["Rent"]
