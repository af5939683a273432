"""Write amounts for people: grouped, signed with a real minus, with the currency's sign."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

_SIGNS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥", "INR": "₹"}
_THOUSAND = Decimal(1000)
_MILLION = Decimal(1_000_000)
_BILLION = Decimal(1_000_000_000)
_UNITS = (
    (Decimal(1), "whole units"),
    (_THOUSAND, "thousands"),
    (_MILLION, "millions"),
)
MINUS = "\u2212"
_NARROW = "\u00a0"


def exact(amount: Decimal, currency: str = "", *, plus: bool = False) -> str:
    """Return an amount to the cent: `-€1,234.50` with a real minus."""
    return _signed(amount, f"{abs(amount):,.2f}", currency, plus=plus)


def whole(amount: Decimal, currency: str = "", *, plus: bool = False) -> str:
    """Return an amount rounded to whole units: `-€1,234`."""
    rounded = amount.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    return _signed(rounded, f"{abs(rounded):,}", currency, plus=plus)


def short(amount: Decimal, currency: str = "") -> str:
    """Return an amount for an axis: `€12k`, `-€1.5m`, `€2bn`."""
    size = abs(amount)
    if size >= _BILLION:
        text = f"{_trim(size / _BILLION)}bn"
    elif size >= _MILLION:
        text = f"{_trim(size / _MILLION)}m"
    elif size >= _THOUSAND:
        text = f"{_trim(size / _THOUSAND)}k"
    else:
        text = _trim(size)
    return _signed(amount, text, currency, plus=False)


def unit(largest: Decimal, *, digits: int) -> tuple[Decimal, str]:
    """Return the smallest unit, and its name, in which an amount has at most so many digits."""
    fits = (item for item in _UNITS if largest / item[0] < 10**digits)
    return next(fits, _UNITS[-1])


def percent(part: Decimal, of: Decimal) -> str:
    """Return a share in percent, one decimal below ten: `7.4 %`."""
    if not of:
        return "\u2013"
    share = part / of * 100
    digits = f"{share:.0f}" if abs(share) >= 10 else f"{share:.1f}"  # noqa: PLR2004 - tens
    return f"{digits}{_NARROW}%".replace("-", MINUS)


def captioned(caption: str, currency: str) -> str:
    """Return a caption that names the currency once, so that the cells need not."""
    return f"{caption}, {currency}" if currency else caption


def _trim(number: Decimal) -> str:
    return f"{number:,.2f}".rstrip("0").rstrip(".")


def _signed(amount: Decimal, digits: str, currency: str, *, plus: bool) -> str:
    sign = MINUS if amount < 0 else "+" if plus and amount > 0 else ""
    mark = _SIGNS.get(currency, f"{currency}{_NARROW}" if currency else "")
    return f"{sign}{mark}{digits}"
