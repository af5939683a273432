"""Sort movements into categories by a table of keywords that anyone can read and extend.

The owner's own rules come first, then this table from top to bottom; the payee is looked at before
the text, because the text of a transfer quotes anything. No guess: what no rule matches is listed
as uncategorised.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from departments.catalog.finance import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OTHER_INCOME = "Sales and other income"
UNCATEGORISED = "Uncategorised"
INSIDE_FROM_LETTERS = 7

#: Category -> keywords, folded (lower case, no accents). A keyword matches at the start of a word,
#: from seven letters on also inside (German compounds: Hofmolkerei); with a dot at its end it must
#: be the whole word. The first matching line wins: advisers stand before taxes (Steuerberater).
SPENDING: dict[str, str] = {
    "Payroll": ("lohn|gehalt|salary|salaries|payroll|wages|personalkosten|minijob|nomina|salaire"),
    "Social security": (
        "krankenkasse|aok|barmer|techniker krankenkasse|dak.|knappschaft|sozialversicherung|"
        "berufsgenossenschaft|bgn.|pension contribution|urssaf|social security"
    ),
    "Advisers and fees": (
        "steuerberat|stb.|rechtsanwalt|kanzlei|notar|beratung|consult|lawyer|solicitor|"
        "attorney|accountant|wirtschaftsprufer|honorar"
    ),
    "Taxes and duties": (
        "finanzamt|umsatzsteuer|lohnsteuer|gewerbesteuer|koerperschaftsteuer|"
        "korperschaftsteuer|steuer|hmrc|irs.|tax.|taxes|stadtkasse|gemeindekasse|bundeskasse|"
        "zoll.|rundfunk|impots|ihk.|handwerkskammer"
    ),
    "Rent and premises": (
        "miete|pacht|rent.|lease of premises|hausverwaltung|immobilien|nebenkosten|landlord|"
        "loyer|alquiler|reinigung|gebaeudereinigung|gebaudereinigung|cleaning|entsorgung|"
        "waste"
    ),
    "Energy and water": (
        "stadtwerke|strom|gas.|energie|energy|electric|wasser|water|e on.|eon.|enbw|"
        "vattenfall|rwe.|naturstrom|lichtblick|heizung|fernwarme|edf.|octopus|british gas|"
        "utility|utilities"
    ),
    "Insurance": (
        "versicherung|insurance|allianz|axa.|huk.|ergo.|gothaer|signal iduna|"
        "wurttembergische|aviva|assurance|seguro"
    ),
    "Telephone and internet": (
        "telekom|vodafone|telefonica|o2.|1 1.|1und1|ionos|internet|mobilfunk|t mobile|"
        "verizon|at t.|comcast|swisscom|sunrise|a1.|hetzner|hosting|domain"
    ),
    "Advertising": (
        "google ads|meta ads|facebook|instagram|werbung|anzeige|marketing|advertising|"
        "mailchimp|druckerei|flyer|linkedin|vistaprint"
    ),
    "Software and subscriptions": (
        "microsoft|google|adobe|apple|aws.|amazon web services|github|slack|zoom.|dropbox|"
        "datev|lexware|lexoffice|sevdesk|xero|quickbooks|intuit|shopify|canva|notion|"
        "atlassian|software|saas|spotify|netflix|subscription|abo.|abonnement|openai"
    ),
    "Loans and interest": (
        "darlehen|kredit|tilgung|loan|mortgage|zinsen|sollzins|interest|kfw.|leasing|pret."
    ),
    "Bank and payment fees": (
        "kontofuhrung|kontofuehrung|entgelt|gebuhr|gebuehr|fee.|fees.|bank charge|"
        "rechnungsabschluss|sumup|paypal fee|stripe|zettle|kartenabrechnung|buchungsposten|"
        "commission|concardis|nexi"
    ),
    "Goods and materials": (
        "rohkaffee|kaffee|coffee|wareneinkauf|lieferant|grosshandel|metro.|wholesale|"
        "molkerei|backerei|baeckerei|verpackung|packaging|material|supplies|supplier|"
        "hofladen|import|getranke|getraenke|bauhaus|obi.|hornbach|home depot|baumarkt"
    ),
    "Shipping and post": (
        "dhl|ups.|usps|fedex|dpd|hermes|gls.|deutsche post|porto|versand|shipping|royal mail|"
        "postage|post ch|la poste"
    ),
    "Vehicles and travel": (
        "tankstelle|shell|aral|esso|jet.|bp.|total energies|totalenergies|tanken|fuel|kfz|"
        "autohaus|werkstatt|bahn|uber.|taxi|lufthansa|ryanair|easyjet|airline|airbnb|"
        "booking com|hotel|parking|parken|sixt|sncf|maut|toll.|adac"
    ),
    "Office and equipment": (
        "buro|buero|office|staples|ikea|mediamarkt|saturn|conrad|amazon|amzn|dell|lenovo|"
        "maschine|equipment|wartung|maintenance|ersatzteil|repair|reparatur"
    ),
    "Food and household": (
        "rewe|edeka|aldi|lidl|penny|netto.|kaufland|dm drogerie|dm.|rossmann|migros|coop|"
        "tesco|sainsbury|walmart|costco|whole foods|trader joe|kroger|supermarkt|grocery|"
        "restaurant|cafe|pizza|starbucks|mcdonald|lieferando|bakery|apotheke|pharmacy"
    ),
    "Training and associations": (
        "seminar|schulung|fortbildung|training|course|verband|verein|mitgliedsbeitrag|membership"
    ),
    "Cash": "bargeld|geldautomat|ga nr|atm.|cash withdrawal|auszahlung|bancomat",
    "Owner and transfers": (
        "privatentnahme|entnahme|umbuchung|ubertrag|uebertrag|transfer to|own account|"
        "sparkonto|savings|eigenubertrag|owner draw|dividend"
    ),
}
INCOME: dict[str, str] = {
    "Refunds": (
        "erstattung|gutschrift retoure|ruckzahlung|rueckzahlung|refund|ruckerstattung|"
        "reversal|storno|finanzamt|steuererstattung|cashback"
    ),
    "Interest and dividends": "zinsen|habenzins|interest|dividend",
    "Owner and transfers": (
        "privateinlage|einlage|umbuchung|ubertrag|uebertrag|transfer from|own account|"
        "sparkonto|savings|kapitaleinlage"
    ),
    "Loans received": "darlehen|kredit|loan|kfw.",
    "Grants": "zuschuss|foerderung|forderbescheid|subvention|grant.|agentur fur arbeit",
    "Card and till payments": (
        "sumup|zettle|izettle|stripe|paypal|square|concardis|nexi|kartenzahlung|kartenumsatz|"
        "kasse|bareinzahlung|cash deposit|terminal|adyen|mollie|klarna"
    ),
    "Rent received": "miete|rent.",
    "Salary": "gehalt|lohn|salary|payroll|wages",
}


class CategoryRule(BaseModel):
    """An owner's own rule: movements whose payee or text has one of the words."""

    model_config = ConfigDict(frozen=True)

    category: str = Field(min_length=1, max_length=60, description="Name shown in the report")
    words: list[str] = Field(
        min_length=1,
        max_length=200,
        description="Any of these at the start of a word in payee or text; case and accents do "
        "not matter",
    )


_Table = tuple[tuple[str, re.Pattern[str]], ...]


class Categoriser:
    """Categorise movements by the owner's rules, then by the table."""

    def __init__(self, rules: Sequence[CategoryRule] = ()) -> None:
        own = tuple(
            (rule.category.strip(), _pattern([columns.fold(word) for word in rule.words]))
            for rule in rules
            if any(columns.fold(word) for word in rule.words)
        )
        self._spending = own + _SPENDING
        self._income = own + _INCOME
        self._find = lru_cache(maxsize=50_000)(self._look_up)

    def category(self, *, payee: str, text: str, incoming: bool) -> str:
        """Return the category of one movement."""
        return self._find(payee, text, incoming)

    def _look_up(self, payee: str, text: str, incoming: bool) -> str:  # noqa: FBT001 - cache key
        table = self._income if incoming else self._spending
        for where in (columns.fold(payee), columns.fold(text)):
            for category, pattern in table:
                if pattern.search(where):
                    return category
        return OTHER_INCOME if incoming else UNCATEGORISED


def _pattern(words: Iterable[str], *, inside_from: int | None = None) -> re.Pattern[str]:
    """Compile keywords; those of at least `inside_from` letters match inside words too."""
    alternatives = []
    for word in filter(None, words):
        if word.endswith("."):
            alternatives.append(rf"\b{re.escape(word[:-1])}\b")
        elif inside_from is not None and len(word) >= inside_from:
            alternatives.append(re.escape(word))
        else:
            alternatives.append(rf"\b{re.escape(word)}")
    return re.compile("|".join(alternatives))


def _compiled(table: dict[str, str]) -> _Table:
    return tuple(
        (category, _pattern(words.split("|"), inside_from=INSIDE_FROM_LETTERS))
        for category, words in table.items()
    )


_SPENDING = _compiled(SPENDING)
_INCOME = _compiled(INCOME)
