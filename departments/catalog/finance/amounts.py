"""Read the amounts of a whole file: one decimal mark for all of them, decided or refused."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

from departments.catalog.finance.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

DecimalMark = Literal["auto", "comma", "point"]

CENT = Decimal("0.01")
MAX_CHARACTERS = 60
"""Longer cells are texts; the pattern below takes quadratic time on endless digits."""
MAX_DIGITS = 15
"""Integer digits of an amount; more is an account number in the wrong column."""
TOLERATED_MINORITY = 0.02
"""Up to this share of values may contradict the rest; they become unreadable rows."""

_SPACES = re.compile(r"[\s\u00a0\u2007\u2009\u202f]+")
_SPLIT_DIGITS = re.compile(r"\d\s\d")
_SPACED = re.compile(r"(?<!\d)\d{1,3}(?: \d{3})+(?!\d)")
_NO_CENTS = re.compile(r"(?<=\d)[.,]--?(?=\D*$)")
_APOSTROPHES = str.maketrans(
    {
        "\u2019": "'",
        "\u2018": "'",
        "`": "'",
        "\u00b4": "'",
        "\u2212": "-",
        "\u2013": "-",
    }
)
_SIGNED = re.compile(
    r"""
    (?P<open>\()? (?P<sign>[+-])? (?P<unit>[A-Z]{3}|[$€£¥₣₤₹₺₽₩฿]|Kč|kr\.?|zł|Fr\.?|Ft)?
    (?P<sign2>[+-])? (?P<digits>[\d.,']*\d[\d.,']*) (?P<sign3>[+-])?
    (?P<unit2>[A-Z]{3}|[$€£¥₣₤₹₺₽₩฿]|Kč|kr\.?|zł|Fr\.?|Ft)? (?P<sign4>[+-])?
    (?P<mark>CR|DR|Cr|Dr|[SHCD])? (?P<close>\))?
    """,
    re.VERBOSE,
)
_COMMA = re.compile(r"(?:\d{1,3}(?:\.\d{3})+|\d{1,3}(?:'\d{3})+|\d+)?(?:,\d*)?")
_POINT = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:'\d{3})+|\d+)?(?:\.\d*)?")
_INDIAN = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d*)?")
_SYMBOLS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "Kč": "CZK", "zł": "PLN"}
_NEGATIVE_MARKS = frozenset({"DR", "Dr", "D", "S"})


class Amount(NamedTuple):
    """A cell split into sign, digits with their marks, and the currency written beside them."""

    negative: bool
    signed: bool
    digits: str
    currency: str


class NumberStyle(NamedTuple):
    """Which mark separates the cents, and how that was found out."""

    decimal_comma: bool
    how: str


def split(value: str) -> Amount | None:
    """Split a cell into its parts, or return None when it holds no amount."""
    if len(value) > MAX_CHARACTERS:
        return None
    value = _SPACES.sub(" ", value.translate(_APOSTROPHES))
    if _SPLIT_DIGITS.search(value) and not _SPACED.search(value):
        return None
    # 100.- and 100,-- are whole units as shops and Swiss bills write them, no minus.
    match = _SIGNED.fullmatch(_NO_CENTS.sub("", value.replace(" ", "")))
    if match is None or bool(match["open"]) != bool(match["close"]):
        return None
    signs = [match[name] for name in ("sign", "sign2", "sign3", "sign4") if match[name]]
    marked = match["mark"] is not None
    if len(signs) + bool(match["open"]) + marked > 1:
        return None
    negative = "-" in signs or bool(match["open"]) or match["mark"] in _NEGATIVE_MARKS
    unit = match["unit"] or match["unit2"] or ""
    signed = bool(signs) or bool(match["open"]) or marked
    return Amount(negative, signed, match["digits"], _SYMBOLS.get(unit, unit))


def code(text: str) -> str:
    """Return the code of a currency written as code or sign: `€` and `eur` are EUR."""
    return _SYMBOLS.get(text.strip(), text.strip().upper())


def decide(values: Iterable[str], *, mark: DecimalMark = "auto") -> NumberStyle:
    """Return the one decimal mark for all `values`; raise `RefusedError` if undecidable.

    `1.234,50` and `12,3` can only have a decimal comma, `1,234.50` and `12.3` only a point.
    `1.234` and `1,234` fit both and decide nothing.
    """
    if mark != "auto":
        return NumberStyle(mark == "comma", f"as told (decimal_mark={mark})")
    comma, point, ambiguous = _evidence(values)
    minority = min(comma, point)
    if minority and minority > TOLERATED_MINORITY * (comma + point):
        raise RefusedError(
            "amounts_mixed",
            f"The amounts mix decimal marks: {comma} can only have a decimal comma, {point} only a "
            "decimal point. Export the file again with one number format.",
        )
    if not comma and not point and ambiguous:
        raise RefusedError(
            "amounts_ambiguous",
            f"All {len(ambiguous)} amounts with a separator fit both readings: "
            f"“{ambiguous[0][:20]}” may have a thousands separator or decimals. "
            "Pass decimal_mark=comma or decimal_mark=point.",
        )
    if not comma and not point:
        return NumberStyle(decimal_comma=False, how="whole numbers only")
    word, count = ("comma", comma) if comma > point else ("point", point)
    return NumberStyle(comma > point, f"decimal {word}: {count} amounts fit no other reading")


def _evidence(values: Iterable[str]) -> tuple[int, int, list[str]]:
    """Count what fits only a comma, only a point; list what fits both with different values."""
    comma = point = 0
    ambiguous: list[str] = []
    for value in values:
        amount = split(value)
        if amount is None:
            continue
        as_comma, as_point = _read_comma(amount.digits), _read_point(amount.digits)
        comma += as_point is None and as_comma is not None
        point += as_comma is None and as_point is not None
        if as_comma is not None and as_point is not None and as_comma != as_point:
            ambiguous.append(value)
    return comma, point, ambiguous


def parse(value: str, style: NumberStyle) -> Decimal | str:
    """Return the signed amount in a cell, exact to the cent, or the reason why there is none."""
    amount = split(value)
    if amount is None:
        return f"“{value[:20]}” is not an amount"
    read = _read_comma if style.decimal_comma else _read_point
    number = read(amount.digits)
    if number is None:
        word = "comma" if style.decimal_comma else "point"
        return f"“{value[:20]}” does not fit the decimal {word} of this file"
    if number.adjusted() >= MAX_DIGITS:
        return f"“{value[:20]}” is too large for an amount"
    cents = number.quantize(CENT)
    if cents != number:
        return f"“{value[:20]}” has a fraction of a cent"
    return -cents if amount.negative and cents else cents


def _read_comma(digits: str) -> Decimal | None:
    if not _COMMA.fullmatch(digits):
        return None
    return Decimal(digits.replace(".", "").replace("'", "").replace(",", ".").rstrip(".") or "0")


def _read_point(digits: str) -> Decimal | None:
    if not _POINT.fullmatch(digits) and not _INDIAN.fullmatch(digits):
        return None
    return Decimal(digits.replace(",", "").replace("'", "").rstrip(".") or "0")
