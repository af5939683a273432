"""Find the header of a statement and what its columns mean, by the names banks give them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from departments.catalog.finance.decoding import Record, delimiters_by_fit, records
from departments.catalog.finance.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER_WITHIN_LINES = 60

#: Role -> names, the most telling first: of two columns that fit a role the earlier name wins.
NAMES: dict[str, tuple[str, ...]] = {
    "date": (
        "buchungstag", "buchungsdatum", "datum buchung", "booking date", "posting date",
        "posted date", "posted transactions date", "transaction date", "completed date",
        "date comptable", "date operation", "date d operation", "fecha operacion",
        "fecha contable", "fecha de operacion", "data operacji", "data ksiegowania",
        "data contabile", "data operazione", "boekdatum", "boekingsdatum", "transaktionsdatum",
        "bokforingsdag", "bokforingsdatum", "abschlussdatum", "buchung",
        "datum", "date", "fecha", "data", "dato",
        "valutadatum", "wertstellung", "wertstellungsdatum", "valuta", "value date",
        "started date",
    ),
    "amount": (
        "betrag", "umsatz", "amount", "transaction amount", "betrag in eur", "umsatz in eur",
        "amount in account currency", "net amount", "montant", "montant operation", "importe",
        "importo", "bedrag", "kwota", "kwota operacji", "belopp", "belob", "belop", "valor",
        "value", "einzelbetrag", "betrag euro", "buchungsbetrag", "summe",
    ),
    "debit": (
        "soll", "belastung", "lastschrift", "ausgabe", "ausgaben", "ausgang", "debit",
        "debit amount", "debits", "withdrawal", "withdrawals", "withdrawal amount", "money out",
        "paid out", "out", "debe", "cargo", "cargos", "dare", "addebiti", "uscite", "af",
        "obciazenia", "belastung in chf", "montant debit", "abgang", "debit chf",
    ),
    "credit": (
        "haben", "gutschrift", "einnahme", "einnahmen", "eingang", "credit", "credit amount",
        "credits", "deposit", "deposits", "deposit amount", "money in", "paid in", "in", "haber",
        "abono", "abonos", "avere", "accrediti", "entrate", "bij", "uznania",
        "gutschrift in chf", "montant credit", "zugang", "credit chf",
    ),
    "balance": (
        "saldo", "kontostand", "saldo nach buchung", "balance", "running balance", "running bal",
        "account balance", "closing balance", "solde", "saldo contable", "saldo disponible",
        "balance after", "saldo po operacji", "saldo na mutatie", "saldo in chf",
        "balance after transaction",
    ),
    "indicator": (
        "soll haben", "s h", "soll haben kennzeichen", "sollhaben", "debit credit", "dr cr",
        "cr dr", "af bij", "debit credit indicator", "credit debit indicator", "kennzeichen",
    ),
    "payee": (
        "auftraggeber empfanger", "auftraggeber zahlungsempfanger",
        "beguenstigter zahlungspflichtiger", "begunstigter zahlungspflichtiger",
        "begunstigter auftraggeber", "beguenstigter auftraggeber", "empfanger auftraggeber",
        "auftraggeber beguenstigter", "auftraggeber begunstigter",
        "name zahlungsbeteiligter", "auftraggeber oder empfanger", "zahlungsbeteiligter",
        "empfanger zahlungspflichtiger", "gegenpartei", "partner name", "counter party",
        "counterparty", "counterparty name", "payee", "payer payee", "merchant", "merchant name",
        "name", "naam omschrijving", "naam tegenpartij", "beneficiario", "tiers", "tegenpartij",
        "name of payer or payee", "contact", "to from",
    ),
    "payee_out": ("zahlungsempfanger in", "zahlungsempfanger", "empfanger", "to", "recipient"),
    "payee_in": ("zahlungspflichtige r", "zahlungspflichtiger", "auftraggeber", "from", "sender"),
    "text": (
        "verwendungszweck", "vorgang verwendungszweck", "buchungstext verwendungszweck",
        "description", "transaction description", "details", "reference", "payment reference",
        "memo", "narrative", "particulars", "remarks", "mitteilung", "buchungsdetails", "libelle",
        "concepto", "descripcion", "descrizione", "causale", "omschrijving", "mededelingen",
        "opis operacji", "opis", "tytul", "text", "beschreibung", "note", "notes", "bezeichnung",
        "beschreibung1", "transaktionsdetails", "libelle operation", "communication",
        "notes and description", "meddelande",
    ),
    "kind": (
        "buchungstext", "umsatzart", "umsatztyp", "vorgang", "transaction type", "type",
        "buchungsart", "art", "transaktionstyp", "mutatiesoort", "subcategory",
    ),
    "currency": (
        "wahrung", "waehrung", "currency", "devise", "divisa", "moneda", "valuta code", "waluta",
        "munt", "whrg", "account currency", "kontowahrung", "currency code",
    ),
    "status": ("status", "state", "info", "buchungsstatus", "transaction status"),
}  # fmt: skip
_ROLES_BY_NAME = {
    name: (role, rank) for role, names in NAMES.items() for rank, name in enumerate(names)
}
_BRACKETS = re.compile(r"[(\[]\s*([^)\]]*?)\s*[)\]]")
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_CODE = re.compile(r"(?:in )?([A-Z]{3}|€|\$|£)")
_SYMBOLS = {"€": "EUR", "$": "USD", "£": "GBP"}


@dataclass(frozen=True, slots=True)
class Header:
    """Where the header is and which column (0-based index) plays which role."""

    line: int
    delimiter: str
    cells: tuple[str, ...]
    roles: dict[str, int] = field(default_factory=dict)
    texts: tuple[int, ...] = ()
    currency: str = ""

    def name(self, role: str) -> str:
        """Return the column's own name, for messages."""
        return self.cells[self.roles[role]].strip()


def fold(text: str) -> str:
    """Return text in lower case without accents and punctuation: `Währung` -> `wahrung`."""
    if not text.isascii():
        plain = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ł", "l"))
        text = "".join(c for c in plain if not unicodedata.combining(c))
    return _NOT_WORD.sub(" ", text.casefold()).strip()


def find(lines: list[str]) -> Header:
    """Return the header; raise `RefusedError` naming what is missing.

    Each plausible delimiter is tried; the header that explains the most columns wins.
    """
    best: Header | None = None
    nearest: Header | None = None
    for delimiter in delimiters_by_fit(lines):
        for record in records(lines[:HEADER_WITHIN_LINES], delimiter):
            header = read_header(record, delimiter)
            if header is None:
                continue
            if is_complete(header.roles):
                if best is None or len(header.roles) > len(best.roles):
                    best = header
            elif nearest is None or len(header.roles) > len(nearest.roles):
                nearest = header
    if best is not None:
        return best
    raise RefusedError("header_missing", _what_is_missing(nearest))


def is_complete(roles: dict[str, int]) -> bool:
    """Tell whether the roles suffice to read movements: a date, and an amount in some form."""
    return "date" in roles and ("amount" in roles or {"debit", "credit"} <= set(roles))


def read_header(record: Record, delimiter: str) -> Header | None:
    """Return what a record means as a header, or None if no cell names a known column."""
    found: dict[str, tuple[int, int]] = {}
    texts: list[int] = []
    currency = ""
    for index, cell in enumerate(record.cells):
        bracket = _BRACKETS.search(cell)
        unit = _CODE.fullmatch(bracket[1]) if bracket else None
        name = fold(_BRACKETS.sub(" ", cell)) if unit else fold(cell)
        role, rank = _ROLES_BY_NAME.get(name) or _ROLES_BY_NAME.get(_without_unit(name), ("", 0))
        if not role:
            continue
        if unit and role in {"amount", "debit", "credit", "balance"}:
            currency = currency or _SYMBOLS.get(unit[1], unit[1])
        if role in {"text", "kind"}:
            texts.append(index)
        # The same name twice (ING: Saldo;Währung;Betrag;Währung): the first one counts.
        if role not in found or rank < found[role][0]:
            found[role] = (rank, index)
    if not found:
        return None
    roles = {role: index for role, (_, index) in found.items()}
    return Header(
        record.line, delimiter, tuple(record.cells), roles, _text_order(texts, roles), currency
    )


def _without_unit(name: str) -> str:
    """Drop a currency written without brackets: `amount eur`, `betrag in eur` -> the name."""
    return re.sub(r" (?:in )?(?:eur|usd|gbp|chf|euro)$", "", name)


def _text_order(texts: Sequence[int], roles: dict[str, int]) -> tuple[int, ...]:
    kind = roles.get("kind")
    return tuple(sorted(texts, key=lambda index: (index == kind, index)))


def _what_is_missing(nearest: Header | None) -> str:
    wanted = (
        "A header line must name a date column (such as Date or Buchungstag) and an amount column "
        "(such as Amount or Betrag), or a debit and a credit column (Soll and Haben)."
    )
    if nearest is None:
        return f"No header found in the first {HEADER_WITHIN_LINES} lines. {wanted}"
    names = ", ".join(cell.strip()[:30] for cell in nearest.cells if cell.strip())[:300]
    missing = "date" if "date" not in nearest.roles else "amount"
    return (
        f"Line {nearest.line} looks like the header ({names}), but no column of it is known "
        f"as the {missing}. {wanted}"
    )
