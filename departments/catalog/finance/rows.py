"""Find the rows under a header, each as wide as it; list everything else with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from departments.catalog.finance import columns, dates, decoding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from departments.catalog.finance.columns import Header

_SUMMARY_STARTS = (
    "summe", "gesamt", "total", "saldo", "endsaldo", "anfangssaldo", "schlusssaldo", "kontostand",
    "alter kontostand", "neuer kontostand", "opening balance", "closing balance",
    "beginning balance", "ending balance", "balance brought forward", "balance carried forward",
    "subtotal", "zwischensumme", "solde", "ubertrag",
)  # fmt: skip


class Problem(NamedTuple):
    """A line that is not among the movements, and why."""

    line: int
    reason: str


class Row(NamedTuple):
    """A row of the table: the line it starts on, and its trimmed cells."""

    line: int
    cells: list[str]


def under(
    header: Header, lines: list[str], *, unreadable: list[Problem], skipped: list[Problem]
) -> Iterator[Row]:
    """Yield the rows under the header, each as wide as the header; list the others."""
    width = len(header.cells)
    # Lines above the header become empty, so that line numbers stay those of the file.
    body = [""] * header.last_line + lines[header.last_line :]
    at = header.roles["date"]

    def is_row(cells: list[str]) -> bool:
        return len(cells) == width and dates.looks_like_date(cells[at])

    for line, cells, problem, _ in decoding.records(
        body, header.delimiter, is_row=is_row, width=width
    ):
        if problem:
            unreadable.append(Problem(line, problem))
            continue
        cells = [_trimmed(cell) for cell in cells]  # noqa: PLW2901 - the same cells, trimmed
        if not any(cells):
            continue
        if not is_row(cells) and _is_header(line, cells, header):
            skipped.append(Problem(line, "the header repeated"))
        elif _is_summary(cells, header):
            skipped.append(Problem(line, f"a total or balance line (“{_first(cells)}”)"))
        elif any(cells[width:]):
            unreadable.append(
                Problem(line, f"has {len(cells)} cells, the header has {width}: a stray delimiter?")
            )
        else:
            yield Row(line, cells[:width] + [""] * (width - len(cells)))


def _trimmed(cell: str) -> str:
    """Return the text of a cell; spreadsheets are told by ="..." that it is one."""
    cell = cell.strip()
    if cell.startswith('="') and cell.endswith('"'):
        return cell[2:-1].strip()
    return cell


def _is_header(line: int, cells: list[str], header: Header) -> bool:
    """Recognise the header repeated; refuse the header of another table."""
    if columns.is_repeated(cells, header):
        return True
    at = header.roles["date"]
    if at < len(cells) and dates.looks_like_date(cells[at]):
        return False
    other = columns.read_header(decoding.Record(line, cells), header.delimiter)
    if other is not None and columns.is_complete(other.roles):
        raise columns.several_tables(header, other)
    return False


def _first(cells: list[str]) -> str:
    return next(cell for cell in cells if cell)[:30]


def _is_summary(cells: list[str], header: Header) -> bool:
    """Recognise totals and balances: such words, and no date or no amount of their own."""
    at = header.roles["date"]
    date = cells[at] if at < len(cells) else ""
    if not dates.looks_like_date(date):
        return _starts_like_summary(columns.fold(_first(cells)))
    money = [header.roles[role] for role in ("amount", "debit", "credit") if role in header.roles]
    if any(cells[index] for index in money if index < len(cells)):
        return False
    texts = [*header.texts, *(header.roles[r] for r in ("payee",) if r in header.roles)]
    return any(
        _starts_like_summary(columns.fold(cells[index])) for index in texts if index < len(cells)
    )


def _starts_like_summary(text: str) -> bool:
    return any(text == start or text.startswith(f"{start} ") for start in _SUMMARY_STARTS)


def column(rows: list[Row], header: Header, role: str) -> list[str]:
    """Return the filled cells of the column that plays a role, if there is one."""
    index = header.roles.get(role)
    if index is None:
        return []
    return [row.cells[index] for row in rows if row.cells[index]]
