"""The report from end to end: sums to the cent, files, escapes, the shipped sample."""

import csv
import datetime as dt
import io
import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from departments.catalog.finance import (
    analysis,
    blocks,
    cashflow,
    money,
    report_html,
    report_pdf,
)
from engine.authoring import StepError
from tests.unit.finance import exports
from tests.unit.finance.exports import Entry, Variant

D = Decimal
ZERO = D(0)


@pytest.fixture(scope="module")
def sample():
    return exports.run(None)


def rows_of(content):
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def pdf_text(content):
    pages = PdfReader(io.BytesIO(content)).pages
    return " ".join(" ".join(page.extract_text().split()) for page in pages)


def entries_over(days, *, start=dt.date(2023, 1, 1)):
    return [
        Entry(start + dt.timedelta(days=n), f"Shop {n % 7}", "", D(n % 400 - 150) + D("0.37"))
        for n in range(days)
    ]


def test_sample__key_figures_are_these_to_the_cent(sample):
    report = sample.report

    assert report.is_sample
    assert report.currency == "EUR"
    assert (report.first_date, report.last_date) == ("2024-01-01", "2026-09-30")
    assert (report.months, report.movements, report.unreadable) == (33, 2203, 1)
    assert report.opening_balance == D("9240.18")
    assert report.income == D("737584.46")
    assert report.spending == D("-730336.11")
    assert report.net == D("7248.35")
    assert report.closing_balance == D("16488.53")
    assert report.recurring_payments == 25
    assert report.forecast_months == 3
    assert sample.ledger.facts.printed_closing == report.closing_balance
    assert sample.ledger.facts.discrepancies_total == 0


def test_sample__says_on_its_face_that_it_is_one(sample):
    assert b"Sample data" in sample.file("html")
    assert "Sample data" in pdf_text(sample.file("pdf"))
    assert b"Sample data" not in exports.run(b"Date;Name;Amount\n2024-01-02;A;1\n").file("html")


def test_sample__independent_sum_of_the_file_agrees(sample):
    text = cashflow.SAMPLE.read_text(encoding="utf-8-sig")
    amounts = [
        D(cells[5].replace(".", "").replace(",", "."))
        for cells in csv.reader(io.StringIO(text), delimiter=";")
        if len(cells) == 8 and re.fullmatch(r"-?[\d.]+,\d\d", cells[5])
    ]

    assert len(amounts) == sample.report.movements
    assert sum(a for a in amounts if a > 0) == sample.report.income
    assert sum(a for a in amounts if a < 0) == sample.report.spending


def test_sample__pdf_has_the_key_figures_on_numbered_pages(sample):
    text = pdf_text(sample.file("pdf"))

    for said in ("€16,488.53", "€737,584.46", "€730,336.11", "+€7,248.35", "Page 1 of"):
        assert said in text
    for title in ("Running balance", "Recurring payments", "How these figures were made"):
        assert title in text


def test_sample__html_has_the_same_figures_and_sections_as_the_pdf(sample):
    html = sample.file("html").decode()
    sections = re.findall(r"<h2[^>]*>([^<]+)</h2>", html)
    printed = pdf_text(sample.file("pdf"))

    assert len(sections) == 11
    assert [title for title in sections if title not in printed] == []
    for said in ("€16,488.53", "€737,584.46", "€730,336.11", "+€7,248.35"):
        assert said in html


def test_sample__tables_add_up_to_the_report(sample):
    movements = rows_of(sample.file("table"))
    months = rows_of(sample.file("months_table"))

    assert len(movements) == sample.report.movements
    assert sum(D(row["amount"]) for row in movements) == sample.report.net
    assert D(movements[-1]["balance"]) == sample.report.closing_balance
    assert sum(D(row["net"]) for row in months) == sample.report.net
    for row in months:
        parts = [D(v) for name, v in row.items() if name.startswith(("income: ", "spending: "))]
        assert sum(parts) == D(row["net"]) == D(row["closing"]) - D(row["opening"])


def test_sample__same_input_gives_the_same_bytes(sample):
    again = exports.run(None)

    assert again.report == sample.report


def test_unreadable__rows_are_on_the_run_in_the_report_and_in_a_file(sample):
    (code, message, data) = sample.context.warnings[0]

    assert code == "rows_unreadable"
    assert "Line 1408" in message
    assert data == {"total": 1, "rows": [{"line": 1408, "reason": "no amount"}]}
    assert rows_of(sample.file("unreadable_rows")) == [
        {"line_in_file": "1408", "reason": "no amount"}
    ]
    assert ">1408<" in sample.file("html").decode()


def test_unreadable__many_rows_show_a_hundred_and_count_all():
    bad = "".join(f"2024-01-02;A;bad{n}\n" for n in range(250))
    done = exports.run(f"Date;Name;Amount\n2024-01-02;A;1.50\n{bad}".encode())

    assert done.report.unreadable == 250
    assert done.context.warnings[0][2]["total"] == 250
    assert len(done.context.warnings[0][2]["rows"]) == 100
    assert len(rows_of(done.file("unreadable_rows"))) == 250
    assert "Lines that could not be read: 250" in done.file("html").decode()


def test_read_ledger__refused_file_is_a_permanent_error_with_code_and_remedy():
    with pytest.raises(StepError) as caught:
        exports.run(b"")

    assert caught.value.code == "empty_file"
    assert caught.value.permanent
    assert "Export" in caught.value.message


def test_read_ledger__centuries_between_rows_are_refused():
    with pytest.raises(StepError, match="over 50 years"):
        exports.run(b"Date;Name;Amount\n1971-01-02;A;1\n2098-01-02;A;1\n")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 800),
            st.sampled_from(["REWE", "Kunde", "Finanzamt", "Miete", "X"]),
            st.integers(-(10**9), 10**9),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(-(10**8), 10**8),
)
@settings(max_examples=40, deadline=None)
def test_join__income_plus_spending_is_net_is_change_of_balance_in_every_part(rows, opening):
    entries = [
        Entry(dt.date(2023, 1, 1) + dt.timedelta(days=day), payee, "", D(cents) / 100)
        for day, payee, cents in sorted(rows)
    ]
    content = exports.write(entries, Variant(balance=True, thousands="."), opening=D(opening) / 100)
    context, ledger, months = exports.until_join(content)
    joined = analysis.join(ledger.facts, [month.totals for month in months])

    total = sum((entry.amount for entry in entries), ZERO)
    assert joined.total.opening == D(opening) / 100
    assert joined.total.net == total == joined.total.closing - joined.total.opening
    assert joined.total.income == sum((e.amount for e in entries if e.amount > 0), ZERO)
    for month in joined.months:
        of_month = [e.amount for e in entries if e.date.isoformat()[:7] == month.month]
        by_category = [
            line.by_month.get(month.month, ZERO) for line in (*joined.income, *joined.spending)
        ]
        assert month.income + month.spending == sum(of_month, ZERO) == sum(by_category, ZERO)
        assert month.opening + month.net == month.closing
    assert joined.lowest.balance == min(day.balance for day in joined.days)
    assert not context.warnings


def test_join__refuses_months_that_do_not_add_up():
    _, ledger, months = exports.until_join(exports.write(entries_over(90), Variant()))
    totals = [month.totals for month in months]
    totals[1] = totals[1].model_copy(update={"income": totals[1].income + D("0.01")})

    with pytest.raises(ArithmeticError, match="2023-02"):
        analysis.join(ledger.facts, totals)


def test_join__months_without_movements_are_lines_of_zeros():
    done = exports.run(b"Date;Name;Amount\n2024-01-02;A;5\n2024-04-02;A;-1\n")
    months = rows_of(done.file("months_table"))

    assert [row["month"] for row in months] == ["2024-01", "2024-02", "2024-03", "2024-04"]
    assert months[1]["opening"] == months[1]["closing"] == "5.00"
    assert len(done.ledger.months) == 2


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []
        self.attributes = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


EVIL = '<script>alert(1)</script><img src=x onerror="a()">'


def test_html__texts_of_the_statement_stay_texts():
    content = exports.write([Entry(dt.date(2024, 1, 2), EVIL, EVIL, D("-5.00"))], Variant())
    html = exports.run(content, title=f"T {EVIL}").file("html").decode()
    parsed = _Tags()
    parsed.feed(html)

    assert not {"script", "img", "link", "iframe"} & set(parsed.tags)
    assert not [n for n, _ in parsed.attributes if n.startswith("on") or n == "style"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_html__every_kind_of_block_escapes():
    table = blocks.Table(EVIL, [blocks.Column(EVIL)] * 2, [blocks.Row([EVIL, EVIL])])
    parts = [blocks.Prose(EVIL), blocks.Notes([(EVIL, EVIL)]), table]
    chart = blocks.Chart(f'"{EVIL}', lambda *_: "<svg ></svg>")
    figure = blocks.Figure(EVIL, EVIL, EVIL)
    page = report_html.page(
        blocks.Report(
            title=EVIL,
            subtitle=EVIL,
            notice=EVIL,
            figures=[figure],
            summary=[EVIL],
            sections=[blocks.Section("s", EVIL, [*parts, chart])],
            footer=EVIL,
        )
    ).decode()

    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") == 22


def test_html__loads_nothing_and_matches_its_own_policy(sample):
    html = sample.file("html").decode()
    parsed = _Tags()
    parsed.feed(html)

    urls = [v for n, v in parsed.attributes if n in {"src", "href"} and not v.startswith("#")]
    assert urls == []
    assert html.count("<style>") == 1
    assert "default-src &#x27;none&#x27;" in html
    ids = [v for n, v in parsed.attributes if n == "id"]
    assert len(ids) == len(set(ids))


def test_pdf__markup_in_the_statement_is_printed_not_run():
    evil = '#panic("run") *b* $x$ @ref <label> [x] \\ "q"'
    content = exports.write([Entry(dt.date(2024, 1, 2), evil, evil, D("-5.00"))], Variant())
    text = pdf_text(exports.run(content, title="T #panic()").file("pdf"))

    assert '#panic("run") *b* $x$ @ref' in text
    assert "T #panic()" in text


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1+1", "@SUM(A1)", " =1", "\uff1d1"])
def test_table__formulas_are_disarmed(evil):
    content = exports.write([Entry(dt.date(2024, 1, 2), evil, f"{evil} x", D("-5.00"))], Variant())
    row = rows_of(exports.run(content).file("table"))[0]

    assert row["payee"].startswith("'")
    assert row["text"].startswith("'")
    assert row["amount"] == "-5.00"


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(dt.date(2024, 2, 29), "A", "", D("1.00"))],
        [Entry(dt.date(2024, 2, 29), "A", "", D("0.00"))],
        [Entry(dt.date(2024, 2, d), f"P{d}", "", D("-99999999.99")) for d in range(1, 20)],
        entries_over(62),
        entries_over(1900),
        entries_over(9000)[::3],
    ],
    ids=["one", "zero", "only spending", "two months", "five years", "25 years"],
)
def test_report__any_shape_of_ledger_gives_both_documents(entries):
    done = exports.run(exports.write(entries, Variant()))
    html = done.file("html").decode()

    assert done.report.net == sum(entry.amount for entry in entries)
    assert len(PdfReader(io.BytesIO(done.file("pdf"))).pages) >= 2
    assert "NaN" not in html
    assert not re.search(r'(?:width|height)="-', html)


def test_report__own_category_rules_come_first():
    content = b"Date;Name;Amount\n2024-01-02;REWE City;-5\n"
    rules = [{"category": "Team lunch", "words": ["rewe"]}]

    html = exports.run(content, category_rules=rules).file("html").decode()
    assert "Team lunch" in html
    assert "Food and household" in exports.run(content).file("html").decode()


def test_report__opening_balance_given_wins():
    done = exports.run(b"Date;Name;Amount\n2024-01-02;A;-5\n", opening_balance="100.10")

    assert done.report.opening_balance == D("100.10")
    assert done.report.closing_balance == D("95.10")


def test_input__unknown_field_and_bad_currency_are_refused():
    for wrong in ({"ledgr": None}, {"currency": "EURO"}, {"opening_balance": "1.234"}):
        with pytest.raises(ValueError, match="validation error"):
            cashflow.CashflowInput(**wrong)


def test_graph__one_month_step_for_each_month():
    nodes = {node.key: node for node in cashflow.cashflow_report.graph.nodes}

    assert list(nodes) == ["read_ledger", "months_of", "month_totals", "render_report"]
    assert list(nodes["month_totals"].over) == ["month"]
    assert cashflow.cashflow_report.graph.output == "render_report"


HEAD = "Date,Name,Amount,Balance\n"


def html_of(text, **given):
    return exports.run(text.encode(), **given).file("html").decode()


def test_report__printed_balance_that_differs_is_said_on_its_face():
    rows = "2024-01-15,A,10.00,110.00\n2024-01-16,B,abc,96.00\n2024-01-17,C,-6.00,90.00\n"
    face = html_of(HEAD + rows).split("<nav")[0]

    assert "the last balance the bank printed is 90.00, by the movements it is 104.00" in face
    assert "1 line of the file could not be read" in face
    agreeing = html_of(HEAD + rows.replace("abc", "-14.00")).split("<nav")[0]
    assert "Careful" not in agreeing
    assert "could not be read" not in agreeing


def test_report__months_without_movements_are_said_on_its_face():
    face = html_of("Date,Name,Amount\n2024-01-15,A,10.00\n2042-01-16,B,-4.00\n").split("<nav")[0]

    assert "There is no movement from Feb 2024 to Dec 2041" in face


def test_report__unknown_balance_is_never_called_below_zero():
    entries = entries_over(430)
    spent = [entry._replace(amount=-abs(entry.amount)) for entry in entries]
    page = exports.run(exports.write(spent, Variant())).file("html").decode()

    assert "below zero" not in page
    assert 'class="below"' not in page
    assert "the balance is expected to change by \u2212" in page
    assert "Sum since start" in page


def test_report__begun_month_never_forecasts_away_what_is_booked():
    entries = [
        *(e._replace(amount=D(40)) for e in entries_over(424)),
        Entry(dt.date(2024, 3, 2), "Taxman", "", D("-50000.00")),
    ]
    finished = exports.run(exports.write(entries, Variant()))
    joined = analysis.join(finished.ledger.facts, [month.totals for month in finished.months])

    assert joined.forecast.begun == "2024-03"
    assert joined.forecast.months[0].spending <= D(-50000)
    assert abs(joined.forecast.months[0].balance - finished.report.closing_balance) < 2000
    assert "what is booked up to 2 Mar 2024 stands" in finished.file("html").decode()


def test_sample__steep_forecast_month_is_explained_by_the_years_before(sample):
    page = sample.file("html").decode()

    assert "The step in Dec 2026 (+€13,772" in page
    assert "repeats Dec 2025 (+€13,772); the year before that, Dec 2024 (+€12,426)" in page


def test_report__endless_words_may_break_in_print():
    assert report_pdf.breakable("X" * 30).count("\u200b") == 3
    assert report_pdf.breakable("Müller & Söhne 1,234,567,890,123,456,789.00").count("\u200b") == 0


def test_report__one_movement_is_not_plural():
    assert "1 movement ·" in html_of("Date,Name,Amount\n2024-01-15,A,-10.00\n")


def test_money__percent_has_a_real_minus_and_axis_knows_billions():
    assert money.percent(D(-12), D(100)) == "\u221212\u00a0%"
    assert money.short(D(-2_500_000_000)) == "\u22122.5bn"


@pytest.mark.parametrize(
    ("amount", "said"),
    [("900000", "whole units"), ("1000000", "thousands"), ("2000000000", "millions")],
)
def test_report__dense_table_takes_a_unit_that_fits(amount, said):
    assert f"rounded to {said}" in html_of(f"Date,Name,Amount\n2024-01-15,A,-{amount}.00\n")


def test_report__long_headline_figures_are_set_smaller():
    page = html_of("Date,Name,Amount\n2024-01-15,A,1234567890123.00\n")

    assert '<dd class="long">1,234,567,890,123.00</dd>' in page


def test_report__characters_without_glyph_print_as_a_box():
    assert report_pdf.breakable("\U0001f355\ufe0f Pizza \u6f22 Größe \u20ac") == "□ Pizza □ Größe €"


def test_report__forecast_of_huge_amounts_takes_a_unit_that_fits():
    entries = [e._replace(amount=e.amount * 10**6) for e in entries_over(430)]

    assert (
        "Forecast, thousands"
        in exports.run(exports.write(entries, Variant())).file("html").decode()
    )
