"""Categories: the table, its order, and the owner's own rules."""

import pytest

from departments.catalog.finance.categories import (
    OTHER_INCOME,
    UNCATEGORISED,
    Categoriser,
    CategoryRule,
)


@pytest.mark.parametrize(
    ("payee", "text", "category"),
    [
        ("Hofmolkerei Sch\u00e4fer", "", "Goods and materials"),
        ("Steuerberatung Dr. K\u00f6lsch", "Honorar", "Advisers and fees"),
        ("Finanzamt T\u00fcbingen", "Umsatzsteuer", "Taxes and duties"),
        ("Google Ads", "", "Advertising"),
        ("Google Ireland Ltd", "Workspace", "Software and subscriptions"),
        ("J\u00fcrgen Wei\u00df", "Lohn 01/2024", "Payroll"),
        ("W\u00dcRTTEMBERGISCHE VERSICHERUNG AG", "", "Insurance"),
        ("UBER TRIP", "", "Vehicles and travel"),
        ("X", "\u00dcberweisung", UNCATEGORISED),
        ("Gasthaus zum L\u00f6wen", "", UNCATEGORISED),
        ("REWE", "Miete", "Food and household"),
    ],
)
def test_category__of_spending(payee, text, category):
    assert Categoriser().category(payee=payee, text=text, incoming=False) == category


def test_category__depends_on_the_direction():
    categoriser = Categoriser()

    assert categoriser.category(payee="Finanzamt", text="", incoming=True) == "Refunds"
    assert categoriser.category(payee="Kunde", text="", incoming=True) == OTHER_INCOME


def test_category__own_rules_come_first_and_match_word_starts_only():
    categoriser = Categoriser([CategoryRule(category="Bar", words=["L\u00d6WE", "versicherung"])])

    def category(payee):
        return categoriser.category(payee=payee, text="", incoming=False)

    assert category("Gasthaus zum L\u00f6wen") == "Bar"
    assert category("Versicherung AG") == "Bar"
    assert category("Sachversicherung") == "Insurance"
