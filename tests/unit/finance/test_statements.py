"""Reading statements: every way banks export, and every reason to refuse."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from departments.catalog.finance import statements
from departments.catalog.finance.refusals import RefusedError
from tests.unit.finance import exports
from tests.unit.finance.exports import Entry, Variant

D = Decimal
LEDGER = [
    Entry(dt.date(2024, 1, 31), "Müller & Söhne", "Rechnung 7", D("1234.50")),
    Entry(dt.date(2024, 2, 13), "Café Größe", "Kuchen; Tee, Milch", D("-0.05")),
    Entry(dt.date(2024, 2, 29), "Stadtwerke", "Abschlag", D("-1987.00")),
    Entry(dt.date(2024, 12, 1), "Finanzamt", 'Erstattung "2023"', D("1000000.10")),
]


def read(text, **options):
    content = text.encode() if isinstance(text, str) else text
    return statements.read(content, statements.Options(**options))


def amounts(statement):
    return [movement.amount for movement in statement.movements]


def refused(text, **options):
    with pytest.raises(RefusedError) as caught:
        read(text, **options)
    return caught.value


@pytest.mark.parametrize(
    "variant",
    [
        Variant(),
        Variant(delimiter=",", comma=False, dates="iso"),
        Variant(delimiter=",", comma=True, dates="month_first"),
        Variant(delimiter="\t", comma=False, thousands=",", dates="month_first"),
        Variant(thousands=".", encoding="latin-1"),
        Variant(thousands=".", encoding="utf-8-sig", preamble=7),
        Variant(thousands="\u00a0", sign="back"),
        Variant(thousands=" ", dates="dotted_short"),
        Variant(thousands="'", comma=False, encoding="utf-16"),
        Variant(thousands="\u2019", comma=False),
        Variant(split=True, thousands=".", encoding="cp1252"),
        Variant(delimiter=",", split=True, comma=False, dates="day_first"),
        Variant(sign="brackets", comma=False, thousands=","),
        Variant(dates="compact", newline="\n"),
        Variant(dates="timed", newline="\r"),
        Variant(balance=True, newest_first=True, thousands="."),
    ],
    ids=str,
)
def test_read__every_export_variant_gives_the_same_movements(variant):
    statement = read(exports.write(LEDGER, variant))

    assert [Entry(m.date, m.payee, m.text, m.amount) for m in statement.movements] == LEDGER
    assert statement.unreadable == []
    assert statement.skipped == []


_TEXT = st.text(
    st.characters(codec="latin-1", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), max_size=12
).map(lambda text: f"Text {text}".strip())
_ENTRIES = st.lists(
    st.builds(
        Entry,
        st.dates(dt.date(2001, 1, 1), dt.date(2030, 12, 31)),
        _TEXT.map(lambda text: f"P{text}"),
        _TEXT,
        st.integers(-(10**10), 10**10).filter(bool).map(lambda cents: D(cents) / 100),
    ),
    min_size=1,
    max_size=12,
).map(lambda entries: sorted(entries, key=lambda entry: entry.date))
_VARIANTS = st.builds(
    Variant,
    delimiter=st.sampled_from(";,\t"),
    comma=st.booleans(),
    thousands=st.sampled_from(["", " ", "\u00a0", "'"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16"]),
    dates=st.sampled_from(["iso", "dotted", "compact", "timed"]),
    split=st.booleans(),
    preamble=st.integers(0, 9),
    newline=st.sampled_from(["\n", "\r\n"]),
    balance=st.booleans(),
    sign=st.sampled_from(["front", "back", "brackets"]),
)


@given(_ENTRIES, _VARIANTS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_read__any_ledger_in_any_variant_keeps_every_cent(entries, variant):
    statement = read(exports.write(entries, variant, opening=D("12.34")))

    assert sorted((m.date, m.amount) for m in statement.movements) == sorted(
        (entry.date, entry.amount) for entry in entries
    )
    assert statement.unreadable == []
    if variant.balance:
        assert statement.balance.opening == D("12.34")
        assert statement.balance.discrepancies == ()


HEAD = "Date,Payee,Amount\n"


@pytest.mark.parametrize(
    ("cell", "amount"),
    [
        ("12.34", "12.34"),
        ("-12.34", "-12.34"),
        ("\u221212.34", "-12.34"),
        ("12.34-", "-12.34"),
        ("(12.34)", "-12.34"),
        ("+12.34", "12.34"),
        ("$12.34", "12.34"),
        ("-$12.34", "-12.34"),
        ("$-12.34", "-12.34"),
        ("12.34 EUR", "12.34"),
        ("EUR -12.34", "-12.34"),
        ("12.34 DR", "-12.34"),
        ("12.34CR", "12.34"),
        ('"1,234.50"', "1234.50"),
        ('"12,34,567.50"', "1234567.50"),
        (".50", "0.50"),
        ("7", "7"),
        ("0.1000", "0.10"),
    ],
)
def test_read__amount_as_banks_write_it(cell, amount):
    statement = read(f"{HEAD}2024-01-02,A,{cell}\n2024-01-03,B,99.99\n")

    assert amounts(statement) == [D(amount), D("99.99")]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "no amount"),
        ("abc", "not an amount"),
        ("1.2.3", "not fit"),
        ("12.345", "fraction of a cent"),
        ("12 34.00", "not an amount"),
        ("--5.00", "not an amount"),
        ("(5.00", "not an amount"),
        ("1e5", "not an amount"),
        ("NaN", "not an amount"),
        ("1" * 200_000, "not an amount"),
        ("9999999999999999.00", "too large"),
        ('"1,5"', "not fit"),
    ],
)
def test_read__bad_amount_is_listed_with_line_and_reason(cell, reason):
    rows = "".join(f"2024-01-{day:02d},ok,{day}.25\n" for day in range(3, 29)) * 3
    statement = read(f"{HEAD}2024-01-02,A,{cell}\n{rows}")

    assert [problem.line for problem in statement.unreadable] == [2]
    assert reason in statement.unreadable[0].reason
    assert len(statement.movements) == 78


@pytest.mark.parametrize(
    ("cell", "date"),
    [
        ("2024-03-05", dt.date(2024, 3, 5)),
        ("2024/3/5", dt.date(2024, 3, 5)),
        ("20240305", dt.date(2024, 3, 5)),
        ("05.03.2024", dt.date(2024, 3, 5)),
        ("5.3.24", dt.date(2024, 3, 5)),
        ("05.03.99", dt.date(1999, 3, 5)),
        ("05.03.2024 14:30", dt.date(2024, 3, 5)),
        ("2024-03-05T14:30:59.123+01:00", dt.date(2024, 3, 5)),
        ("25/03/2024", dt.date(2024, 3, 25)),
        ("03/25/2024 2:05 PM", dt.date(2024, 3, 25)),
        ("5 Mar 2024", dt.date(2024, 3, 5)),
        ("05-Mar-24", dt.date(2024, 3, 5)),
        ("Mar 5 2024", dt.date(2024, 3, 5)),
        ("5. März 2024", dt.date(2024, 3, 5)),
    ],
)
def test_read__date_as_banks_write_it(cell, date):
    statement = read(f"Date;Payee;Amount\n{cell};A;1.00\n")

    assert [movement.date for movement in statement.movements] == [date]


def test_read__one_date_above_twelve_decides_for_the_column():
    statement = read(f"{HEAD}03/04/2024,A,1.00\n03/25/2024,B,2.00\n")

    assert [m.date for m in statement.movements] == [dt.date(2024, 3, 4), dt.date(2024, 3, 25)]
    assert "month first: 1 of 2" in statement.dates_how


def test_read__ambiguous_dates_are_refused_with_count_column_and_remedy():
    refusal = refused(f"{HEAD}03/04/2024,A,1.00\n05/06/2024,B,2.00\n01/02/2024,C,2.00\n")

    assert refusal.code == "dates_ambiguous"
    for said in ("“Date”", "all 3 dates", "DD/MM and MM/DD", "date_order"):
        assert said in refusal.message


def test_read__ambiguous_dates_are_read_as_told():
    text = f"{HEAD}03/04/2024,A,1.00\n"

    assert read(text, date_order="dmy").movements[0].date == dt.date(2024, 4, 3)
    assert read(text, date_order="mdy").movements[0].date == dt.date(2024, 3, 4)


def test_read__sequence_of_rows_decides_when_only_one_order_is_in_sequence():
    days = [dt.date(2024, month, day) for month in (1, 2, 3) for day in (1, 5, 9, 12)]
    rows = "".join(f"{day:%d/%m/%Y},A,1.00\n" for day in days)

    statement = read(HEAD + rows)

    assert [m.date for m in statement.movements] == days
    assert "in sequence" in statement.dates_how


def test_read__mixed_date_orders_are_refused():
    refusal = refused(f"{HEAD}25/03/2024,A,1.00\n03/26/2024,B,2.00\n")

    assert refusal.code == "dates_mixed"


def test_read__impossible_date_is_listed_and_decides_nothing():
    refusal = refused(f"{HEAD}99/01/2024,A,1.00\n03/04/2024,B,2.00\n")

    assert refusal.code == "dates_ambiguous"


def test_read__year_first_with_two_digits_is_refused():
    rows = "".join(f"24-01-{day:02d},A,1.00\n" for day in range(1, 20))

    assert refused(HEAD + rows).code == "dates_ambiguous"


@pytest.mark.parametrize(("mark", "amount"), [("comma", "1234"), ("point", None)])
def test_read__ambiguous_amounts_are_refused_or_read_as_told(mark, amount):
    text = "Datum;Name;Betrag\n01.02.2024;A;1.234\n02.02.2024;B;5\n"

    refusal = refused(text)
    assert refusal.code == "amounts_ambiguous"
    assert "1.234" in refusal.message
    assert "decimal_mark" in refusal.message
    told = read(text, decimal_mark=mark)
    assert amounts(told)[0] == D(amount or "5")
    assert len(told.unreadable) == (amount is None)


def test_read__one_decisive_amount_decides_for_the_ambiguous_ones():
    statement = read("Datum;Name;Betrag\n01.02.2024;A;1.234\n02.02.2024;B;5,50\n")

    assert amounts(statement) == [D("1234.00"), D("5.50")]


def test_read__mixed_decimal_marks_are_refused():
    text = "Datum;Name;Betrag\n01.02.2024;A;1,50\n02.02.2024;B;2.50\n"

    assert refused(text).code == "amounts_mixed"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\xef\xbb\xbf \r\n\r\n", "empty_file"),
        (b"%PDF-1.7 ...", "binary_file"),
        (b"PK\x03\x04rest", "binary_file"),
        (b"Date,Amount\n2024-01-01,1.0\x000\n", "binary_file"),
        (bytes(range(256)) * 4, "binary_file"),
        (b"\xff\xfeD\x00a", "binary_file"),
        (b"hello world\nno table here\n", "header_missing"),
        (b"Date,Payee\n2024-01-01,A\n", "header_missing"),
        (b"Date,Payee,Amount\n", "no_movements"),
        (b"Date,Payee,Amount\nnonsense,A,abc\n", "no_movements"),
        (
            b"Date;Payee;Amount;Currency\n2024-01-01;A;1;EUR\n2024-01-02;B;1;USD\n",
            "currencies_mixed",
        ),
    ],
)
def test_read__unusable_file_is_refused_with_its_reason(content, code):
    refusal = refused(content)

    assert refusal.code == code
    assert len(refusal.message) > 40


def test_read__missing_amount_column_names_the_header_found():
    refusal = refused("Buchungstag;Name;Summand\n01.02.2024;A;1,00\n")

    assert "Buchungstag, Name, Summand" in refusal.message
    assert "as the amount" in refusal.message


def test_read__every_line_ends_in_exactly_one_list():
    text = (
        "Sparkasse;;;\nBuchungstag;Name;Verwendungszweck;Betrag\n"  # 1, 2
        "01.02.2024;A;x;1,00\n\n"  # 3, 4
        "Buchungstag;Name;Verwendungszweck;Betrag\n"  # 5
        "31.02.2024;B;x;2,00\n"  # 6
        '03.02.2024;"C\nover lines";x;3,00\n'  # 7, 8
        '04.02.2024;"D;x;4,00\n'  # 9
        "05.02.2024;E;x;5,00;stray\n"  # 10
        "Summe;;;9,00\n"  # 11
        "06.02.2024;F\n"  # 12
        "07.02.2024;Saldo zum Monatsende;Kontostand;\n"  # 13
        "08.02.2024;G;x;7,00;;\n"  # 14
    )
    statement = read(text)

    assert [m.line for m in statement.movements] == [3, 7, 14]
    assert statement.movements[1].payee == "C over lines"
    assert [p.line for p in statement.unreadable] == [6, 9, 10, 12]
    assert [p.line for p in statement.skipped] == [5, 11, 13]
    assert "quotation mark" in statement.unreadable[1].reason


@pytest.mark.parametrize("end", ['"fine"', 'fine"'])
def test_read__first_of_two_stray_quotes_never_swallows_rows_between(end):
    rows = "".join(f"2024-01-{day:02d};A{day};{day}.50\n" for day in range(3, 9))
    text = f'Date;Payee;Amount\n2024-01-02;"broken;1.00\n{rows}2024-01-09;{end};2.00\n'

    statement = read(text)

    assert [p.line for p in statement.unreadable] == [2]
    assert len(statement.movements) == 7


def test_read__pending_rows_are_skipped_with_reason():
    text = "Date;Name;Amount;Status\n2024-01-02;A;1.00;booked\n2024-01-03;B;2.00;PENDING\n"

    statement = read(text)

    assert amounts(statement) == [D("1.00")]
    assert "not booked" in statement.skipped[0].reason


def test_read__wanted_currency_lists_rows_in_others():
    text = "Date;Name;Amount;Currency\n2024-01-02;A;1.00;EUR\n2024-01-03;B;2.00;USD\n"

    statement = read(text, currency="eur")

    assert amounts(statement) == [D("1.00")]
    assert "USD" in statement.unreadable[0].reason


@pytest.mark.parametrize(
    ("header", "row", "amount"),
    [
        ("Datum;Naam / Omschrijving;Af Bij;Bedrag (EUR)", "20240131;A;Af;12,50", "-12.50"),
        ("Buchungstag;Name;Umsatz;", "31.01.2024;A;12,50;S", "-12.50"),
        ("Date,Description,Type,Amount", "2024-01-31,A,Debit,12.50", "-12.50"),
        ("Date,Description,Debit,Credit", "2024-01-31,A,-12.50,", "-12.50"),
        ("Date,Description,Debit,Credit", "2024-01-31,A,0.00,12.50", "12.50"),
        ("Date,Description,Money Out,Money In", "2024-01-31,A,12.50,", "-12.50"),
        ("Buchungstag;Name;Betrag;Soll;Haben", "31.01.2024;A;;-12,50;", "-12.50"),
        ("Date;Libellé;Débit;Crédit", "31/01/2024;A;12,50;", "-12.50"),
        ("Fecha;Concepto;Importe;Saldo", "31/01/2024;A;-12,50;100,00", "-12.50"),
        (
            "Valuta;Buchung;Saldo;Währung;Name;Betrag;Währung",
            "31.01.2024;31.01.2024;5,00;EUR;A;-12,50;EUR",
            "-12.50",
        ),
    ],
)
def test_read__headers_of_banks(header, row, amount):
    statement = read(f"{header}\n{row}\n")

    assert amounts(statement) == [D(amount)]
    assert statement.movements[0].date == dt.date(2024, 1, 31)


def test_read__debit_and_credit_both_filled_is_unreadable():
    text = "Date,Name,Debit,Credit\n2024-01-31,A,1.00,2.00\n2024-01-31,B,1.00,\n"

    assert "both" in read(text).unreadable[0].reason


def test_read__wrong_balance_is_found_with_its_line():
    text = (
        "Date;Name;Amount;Balance\n2024-01-02;A;10.00;110.00\n"
        "2024-01-03;B;-5.00;105.00\n2024-01-04;C;-5.00;101.00\n2024-01-05;D;1.00;102.00\n"
    )
    balance = read(text).balance

    assert balance.opening == D("100.00")
    assert [(d.line, d.expected, d.found) for d in balance.discrepancies] == [
        (4, D("100.00"), D("101.00"))
    ]


def test_read__newest_first_on_one_day_is_seen_by_the_balance():
    text = "Date;Name;Amount;Balance\n2024-01-02;B;-5.50;104.50\n2024-01-02;A;10.00;110.00\n"

    statement = read(text)

    assert statement.newest_first
    assert [m.payee for m in statement.movements] == ["A", "B"]
    assert statement.balance.opening == D("100.00")


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (
            "Date,Time,Name,Type,Status,Currency,Gross,Fee,Net,Balance",  # PayPal
            "2024-01-15,10:00,Ann,Payment,Completed,USD,100.00,-3.20,96.80,96.80",
            ("96.80", "Ann"),
        ),
        (
            "Datum;Name;Typ;Status;Währung;Brutto;Gebühr;Netto;Guthaben",
            "15.01.2024;Ann;Zahlung;Abgeschlossen;EUR;100,00;-3,20;96,80;96,80",
            ("96.80", "Ann"),
        ),
        (
            "Date started (UTC),Date completed (UTC),Type,State,Description,Amount,Total amount",
            "2024-01-14,2024-01-15,TRANSFER,COMPLETED,Ann,-5.00,-5.20",  # Revolut Business
            ("-5.20", "Ann"),
        ),
        (
            "Date operation;Type operation;Libelle operation;Montant operation en euro",  # BNP
            "15/01/2024;VIREMENT;ANN;-1 089,90",
            ("-1089.90", "ANN"),
        ),
        ("Date;Libellé;Débit euros;Crédit euros;", "15/01/2024;ANN;89,90;;", ("-89.90", "ANN")),
        (
            "Datum;Bewegungstyp;Avisierungstext;Gutschrift in CHF;Lastschrift in CHF",
            "15.01.2024;Lastschrift;ANN;;-89.9",  # PostFinance
            ("-89.90", "ANN"),
        ),
        (
            "Buchungstag;Umsatzart;Buchungstext;Betrag",
            "15.01.2024;Lastschrift;ANN;-5,00",
            ("-5.00", "ANN"),
        ),
        (
            "Details,Posting Date,Description,Amount,Type",  # Chase
            "DEBIT,01/15/2024,ANN,-5.00,ACH_DEBIT",
            ("-5.00", "ANN"),
        ),
        ("Date,Description,Amount", "2024-01-15,DEPOSIT,5.00", ("5.00", "DEPOSIT")),
        (
            "Date,Amount,Currency,Description,Payer Name,Payee Name",  # Wise
            "15-01-2024,-5.00,EUR,Sent money,,Ann",
            ("-5.00", "Ann"),
        ),
        ("Date,Name,Amount", '="2024-01-15",Ann,="5.00"', ("5.00", "Ann")),
        ("Date,Name,Amount", "2024-01-15 10:00:01 +0000 UTC,Ann,5.00", ("5.00", "Ann")),
        ("Date,Description,Type,Amount", "2024-01-15,ANN,Withdrawal,5.00", ("-5.00", "ANN")),
        ("Datum;Name;Betrag", "15.01.2024;Ann;1'100.–", ("1100.00", "Ann")),
        ("Datum;Name;Betrag", "15.01.2024;Ann;100,--", ("100.00", "Ann")),
        ("Datum;Name;Betrag", "15.01.2024;Ann;-100,-", ("-100.00", "Ann")),
    ],
)
def test_read__row_of_bank_gives_amount_and_payee(header, row, expected):
    movement = read(f"{header}\n{row}\n").movements[0]

    assert (movement.date, str(movement.amount), movement.payee) == (
        dt.date(2024, 1, 15),
        *expected,
    )


@pytest.mark.parametrize(
    ("status", "is_counted"),
    [("Umsatz gebucht", True), ("Umsatz vorgemerkt und nicht gebucht", False), ("Denied", False)],
)
def test_read__status_of_bank_decides_what_counts(status, is_counted):
    text = f"Date;Name;Amount;Info\n2024-01-02;A;1.00;Completed\n2024-01-03;B;2.00;{status}\n"

    statement = read(text)

    assert len(statement.movements) == 1 + is_counted
    assert len(statement.skipped) == 1 - is_counted


def test_read__fee_beside_the_amount_is_taken_off_when_the_balance_shows_it():
    head = "Completed Date,Description,Amount,Fee,State,Balance\n"
    apart = "2024-01-02,A,100.00,0.00,COMPLETED,100.00\n2024-01-03,B,-20.00,1.50,COMPLETED,78.50\n"
    inside = apart.replace("78.50", "80.00")

    assert amounts(read(head + apart)) == [D("100.00"), D("-21.50")]
    assert read(head + apart).balance.discrepancies == ()
    assert "taken off, so" in read(head + apart).numbers_how
    assert amounts(read(head + inside)) == [D("100.00"), D("-20.00")]
    assert "not taken off" in read(head + inside).numbers_how


def test_read__parts_of_a_collective_booking_are_not_counted_twice():
    text = (
        "Buchungsdatum;Belastung;Gutschrift;Einzelbetrag;Beschreibung1\n"
        "2024-01-31;-300.00;;;Sammelauftrag\n2024-01-31;;;-100.00;A\n2024-01-31;;;-200.00;B\n"
    )

    statement = read(text)

    assert amounts(statement) == [D("-300.00")]
    assert ["collective" in problem.reason for problem in statement.skipped] == [True, True]


def test_read__correction_in_a_column_of_negative_debits_keeps_its_sign():
    text = (
        "Datum;Text;Gutschrift;Lastschrift\n2024-01-29;A;;5.00\n"
        "2024-01-30;B;;-10.00\n2024-01-31;C;;-89.90\n"
    )

    assert amounts(read(text)) == [D("5.00"), D("-10.00"), D("-89.90")]


def test_read__amounts_without_signs_are_refused_when_the_balance_falls():
    rows = "2024-01-02,A,10.00,10.00\n2024-01-03,B,4.00,6.00\n"
    refusal = refused(f"Date,Name,Amount,Balance\n{rows}")

    assert refusal.code == "signs_missing"
    for said in ("“Amount”", "line 3", "signed amounts"):
        assert said in refusal.message


def test_read__second_table_is_refused_in_either_order():
    narrow = "Buchungstag;Buchungstext;Umsatz in EUR\n31.01.2024;A;-1,00\n\n"
    wide = "Buchungstag;Referenz;Währung;Buchungstext;Betrag\n29.01.2024;R;EUR;B;-2,00\n\n"

    for text in (narrow + wide, wide + narrow, wide + "x\n" * 70 + narrow):
        refusal = refused(text)
        assert refusal.code == "several_tables"
        assert "line 1" in refusal.message


def test_read__file_without_header_is_refused_with_its_first_movement():
    refusal = refused(
        '"01/02/2024","-12.50","*","","STARBUCKS"\n"01/15/2024","9.00","*","","DEPOSIT"\n'
    )

    assert refusal.code == "header_missing"
    assert "01/02/2024, -12.50" in refusal.message
    assert "Put a line above" in refusal.message


def test_read__currencies_beside_amounts_are_never_added_up():
    text = "Date,Name,Amount\n2024-01-15,A,€10.00\n2024-01-16,B,$9.00\n"

    assert refused(text).code == "currencies_mixed"
    told = read(text, currency="EUR")
    assert amounts(told) == [D("10.00")]
    assert "USD" in told.unreadable[0].reason


def test_read__wanted_currency_never_relabels_the_files_own():
    refusal = refused("Date,Name,Amount (EUR)\n2024-01-15,A,10.00\n", currency="USD")

    assert refusal.code == "currency_contradicted"
    assert "EUR" in refusal.message
    assert "USD" in refusal.message
    assert read("Date,Name,Amount\n2024-01-15,A,$9.00\n", currency="CAD").currency == "CAD"


def test_read__currency_sign_and_code_are_the_same_currency():
    text = "Date,Name,Amount,Currency\n2024-01-15,A,10.00,€\n2024-01-16,B,10.00,eur\n"

    assert read(text).currency == "EUR"


def test_read__byte_order_mark_inside_a_joined_file_is_the_header_repeated():
    text = f"\ufeff{HEAD}2024-01-15,A,1.00\n\ufeff{HEAD}2024-01-16,B,2.00\n"

    statement = read(text)

    assert len(statement.movements) == 2
    assert [problem.reason for problem in statement.skipped] == ["the header repeated"]


def test_read__endless_quoted_cell_costs_its_own_line():
    statement = read(f'{HEAD}2024-01-15,"{"x" * 200_000}",1.00\n2024-01-16,B,2.00\n')

    assert amounts(statement) == [D("2.00")]
    assert statement.unreadable[0].reason == "a quoted cell is too long"


def test_read__end_mark_of_old_programs_and_cut_characters_are_read():
    cut = "Müller & Söhne Größe".encode() + b" \xc3"

    assert amounts(read(HEAD.encode() + b"2024-01-15,A,1.00\r\n\x1a")) == [D("1.00")]
    statement = read(HEAD.encode() + b"2024-01-15," + cut + b",1.00\n")
    assert statement.movements[0].payee == "Müller & Söhne Größe \ufffd"
    assert "1 damaged" in statement.encoding


def test_read__header_over_two_lines_is_no_unreadable_row():
    statement = read('Date,"Name\n(payee)",Amount\n2024-01-15,A,1.00\n')

    assert statement.unreadable == []
    assert [movement.line for movement in statement.movements] == [3]
