"""Find the header of a statement and what its columns mean, by the names banks give them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from departments.catalog.finance import dates
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
        "date completed", "date completed utc",
        "date comptable", "date operation", "date d operation", "fecha operacion",
        "fecha contable", "fecha de operacion", "data operacji", "data ksiegowania",
        "data contabile", "data operazione", "boekdatum", "boekingsdatum", "transaktionsdatum",
        "bokforingsdag", "bokforingsdatum", "abschlussdatum", "buchung",
        "datum", "date", "fecha", "data", "dato",
        "valutadatum", "wertstellung", "wertstellungsdatum", "valuta", "value date",
        "started date", "date started", "date started utc",
    ),
    "amount": (
        "net", "netto", "total amount",
        "betrag", "umsatz", "amount", "transaction amount", "betrag in eur", "umsatz in eur",
        "amount in account currency", "net amount", "montant", "montant operation", "importe",
        "importo", "bedrag", "kwota", "kwota operacji", "belopp", "belob", "belop", "valor",
        "value", "betrag euro", "buchungsbetrag", "summe",
    ),
    "part": ("einzelbetrag", "individual amount", "montant individuel"),
    "fee": ("fee", "fees", "gebuhr", "gebuhren", "frais"),
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
        "balance after transaction", "guthaben",
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
    "payee_out": (
        "zahlungsempfanger in", "zahlungsempfanger", "empfanger", "to", "recipient", "payee name",
    ),
    "payee_in": (
        "zahlungspflichtige r", "zahlungspflichtiger", "auftraggeber", "from", "sender",
        "payer name",
    ),
    "text": (
        "verwendungszweck", "vorgang verwendungszweck", "buchungstext verwendungszweck",
        "description", "transaction description", "details", "reference", "payment reference",
        "memo", "narrative", "particulars", "remarks", "mitteilung", "buchungsdetails", "libelle",
        "concepto", "descripcion", "descrizione", "causale", "omschrijving", "mededelingen",
        "opis operacji", "opis", "tytul", "text", "beschreibung", "note", "notes", "bezeichnung",
        "beschreibung1", "transaktionsdetails", "libelle operation", "communication",
        "notes and description", "meddelande", "avisierungstext", "notification text",
        "texte de notification", "description1", "description2", "beschreibung2",
    ),
    "kind": (
        "buchungstext", "umsatzart", "umsatztyp", "vorgang", "transaction type", "type",
        "buchungsart", "art", "typ", "transaktionstyp", "mutatiesoort", "subcategory",
        "type operation", "libelle court", "bewegungstyp", "type of transaction",
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
_AMOUNT = re.compile(r"[-+(]?\W?\d[\d.,' ]*[.,]\d{1,2}\)?-?")
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
    kinds: tuple[int, ...] = ()
    currency: str = ""
    height: int = 1

    @property
    def last_line(self) -> int:
        """Return the last line of the header; names in quotes may span lines."""
        return self.line + self.height - 1

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
    complete: list[Header] = []
    for delimiter in delimiters_by_fit(lines):
        for record in records(lines[:HEADER_WITHIN_LINES], delimiter):
            header = read_header(record, delimiter)
            if header is None:
                continue
            if is_complete(header.roles):
                complete.append(header)
                if best is None or len(header.roles) > len(best.roles):
                    best = header
            elif nearest is None or len(header.roles) > len(nearest.roles):
                nearest = header
    if best is None:
        raise RefusedError(
            "header_missing", _begins_with_movements(lines) or _what_is_missing(nearest)
        )
    for other in complete:
        if not is_repeated(other.cells, best) and _has_rows(other, lines[: best.line]):
            raise several_tables(other, best)
    return best


def is_repeated(cells: Sequence[str], header: Header) -> bool:
    """Tell whether cells are the header once more, as in files put together of several."""
    names = [name(cell) for cell in header.cells]
    return [name(cell) for cell in cells[: len(names)]] == names


def name(cell: str) -> str:
    """Return a column's name for comparison."""
    return cell.strip().strip("\ufeff").strip().casefold()


def several_tables(first: Header, second: Header) -> RefusedError:
    """Return the refusal of a file with two tables: reading one would drop the other's rows."""
    first, second = sorted((first, second), key=lambda header: header.line)
    return RefusedError(
        "several_tables",
        f"The file holds several tables: one begins on line {first.line}, another with other "
        f"columns on line {second.line}. Export one account a file, or cut the file there.",
    )


def _has_rows(header: Header, lines: list[str]) -> bool:
    at = header.roles["date"]
    return any(
        len(record.cells) > at and dates.looks_like_date(record.cells[at].strip())
        for record in records(lines[header.line :], header.delimiter)
    )


def _begins_with_movements(lines: list[str]) -> str:
    """Return what to say when the first line is a movement: the bank exports no header."""
    first = next((line for line in lines if line.strip()), "")
    for delimiter in delimiters_by_fit(lines[:HEADER_WITHIN_LINES]):
        cells = [cell.strip() for r in records([first], delimiter) for cell in r.cells]
        if any(map(dates.looks_like_date, cells)) and any(map(_AMOUNT.fullmatch, cells)):
            shown = ", ".join(cell[:20] for cell in cells[:6])
            return (
                f"The file has no header: its first line is already a movement ({shown}). Put a "
                "line above it that names the columns, such as Date, Amount and Description, in "
                "the file's own order and with its own separator."
            )
    return ""


def is_complete(roles: dict[str, int]) -> bool:
    """Tell whether the roles suffice to read movements: a date, and an amount in some form."""
    return "date" in roles and ("amount" in roles or {"debit", "credit"} <= set(roles))


def read_header(record: Record, delimiter: str) -> Header | None:
    """Return what a record means as a header, or None if no cell names a known column."""
    found: dict[str, tuple[int, int]] = {}
    texts: list[int] = []
    kinds: list[int] = []
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
            (texts if role == "text" else kinds).append(index)
        # The same name twice (ING: Saldo;Währung;Betrag;Währung): the first one counts.
        if role not in found or rank < found[role][0]:
            found[role] = (rank, index)
    if not found:
        return None
    if "text" not in found and "kind" in found:
        # Without a text of its own the most telling name of a kind is one (Commerzbank).
        found["text"] = found.pop("kind")
        texts.append(found["text"][1])
        kinds.remove(texts[0])
    roles = {role: index for role, (_, index) in found.items()}
    return Header(
        line=record.line,
        delimiter=delimiter,
        cells=tuple(record.cells),
        roles=roles,
        texts=tuple(texts),
        kinds=tuple(kinds),
        currency=currency,
        height=record.height,
    )


def _without_unit(name: str) -> str:
    """Drop a currency written without brackets: `amount eur`, `betrag in eur` -> the name."""
    return re.sub(r" (?:(?:in|en) )?(?:eur|usd|gbp|chf|euros?)$", "", name)


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
