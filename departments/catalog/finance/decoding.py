"""Turn the bytes of a statement into numbered records: encoding, delimiter, quotes."""

from __future__ import annotations

import csv
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from departments.catalog.finance.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_QUOTED_LINES = 30
"""A quoted cell longer than this many lines is a forgotten quotation mark, not a text."""

DELIMITERS = (";", "\t", ",", "|")
_SNIFFED_LINES = 200
_LINE_END = re.compile(r"\r\n|\n|\r")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_SENTINEL = "\x1e"
_OPEN_QUOTE = "a quotation mark is opened and not closed"
_DOS_END = b"\x1a"
"""Old export programs still close a file with it."""
_DAMAGED = "\ufffd"
_KNOWN_BINARY = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)


class Decoded(NamedTuple):
    """Text of a file and the name of the encoding it was read with."""

    text: str
    encoding: str


class Record(NamedTuple):
    """One CSV record: the line it starts on (1-based), its cells, or why it cannot be split."""

    line: int
    cells: list[str]
    problem: str = ""
    height: int = 1


def decode(content: bytes) -> Decoded:
    """Return the text of a statement; raise `RefusedError` for empty, huge and binary files.

    UTF-8 is tried first because Latin-1 never fails: text with umlauts in Latin-1 is not valid
    UTF-8. Windows-1252 is what banks mean by Latin-1 (it has the euro sign at 0x80).
    """
    content = content.rstrip(_DOS_END)
    if not content.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n"):
        raise RefusedError("empty_file", "The file is empty. Export the statement again as CSV.")
    if len(content) > MAX_FILE_BYTES:
        raise RefusedError(
            "file_too_large",
            f"The file has {len(content):,} bytes; the limit is {MAX_FILE_BYTES:,}. "
            "Export a shorter period.",
        )
    for magic, what in _KNOWN_BINARY:
        if content.startswith(magic):
            raise RefusedError(
                "binary_file", f"The file is {what}, not text. Export the statement as CSV."
            )
    decoded = _decode_text(content)
    control = _CONTROL.search(decoded.text)
    if control:
        line = decoded.text.count("\n", 0, control.start()) + 1
        raise RefusedError(
            "binary_file",
            f"The file is binary: line {line} has the control character "
            f"0x{ord(control.group()):02x}. Export the statement as CSV.",
        )
    return decoded


def _decode_text(content: bytes) -> Decoded:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return Decoded(content.decode("utf-16"), "UTF-16")
        except UnicodeDecodeError:
            raise RefusedError(
                "binary_file",
                "The file starts like UTF-16 text but is damaged. Export it again as UTF-8 CSV.",
            ) from None
    if content.startswith(b"\xef\xbb\xbf"):
        try:
            return Decoded(content.decode("utf-8-sig"), "UTF-8 with BOM")
        except UnicodeDecodeError:
            content = content[3:]
    repaired = content.decode("utf-8", errors="replace")
    damaged = repaired.count(_DAMAGED)
    # UTF-8 with a character cut in two by a length limit is still UTF-8, not Latin-1.
    if damaged and damaged * 2 < sum(not character.isascii() for character in repaired):
        return Decoded(repaired, f"UTF-8 with {damaged} damaged characters")
    for codec, name in (("utf-8", "UTF-8"), ("cp1252", "Latin-1 (Windows-1252)")):
        try:
            return Decoded(content.decode(codec), name)
        except UnicodeDecodeError:
            continue
    return Decoded(content.decode("latin-1"), "Latin-1")


def lines_of(text: str) -> list[str]:
    """Split at the line ends banks use; unlike `splitlines` never inside a cell (NEL, U+2028)."""
    lines = _LINE_END.split(text)
    if lines and not lines[-1]:
        lines.pop()
    return lines


def delimiters_by_fit(lines: list[str]) -> list[str]:
    """Return the delimiters worth trying, the most regular first.

    Regular means: most of the sampled lines have the same, more than one, number of cells.
    """
    scored: list[tuple[float, int, str]] = []
    sample = [line for line in lines[:_SNIFFED_LINES] if line.strip()]
    for delimiter in DELIMITERS:
        widths = Counter(len(_split(line, delimiter)) for line in sample)
        widths.pop(1, None)
        if widths:
            width, count = widths.most_common(1)[0]
            scored.append((count / len(sample), width, delimiter))
    return [delimiter for _, _, delimiter in sorted(scored, reverse=True)]


def _split(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a field beyond the limit of the csv module
        return []


def records(
    lines: list[str],
    delimiter: str,
    *,
    is_row: Callable[[list[str]], bool] = lambda _: False,
    width: int | None = None,
) -> Iterator[Record]:
    """Yield the records of `lines`, joining quoted cells that span lines.

    width: number of cells of the header. is_row: whether cells look like a whole row. A joined
    record of another width, or whose lines look like whole rows themselves, was glued together by
    stray quotation marks: then only its first line is reported, and reading goes on with the next,
    so that one bad line never swallows its neighbours.
    """
    index = 0
    while index < len(lines):
        line = lines[index]
        number = index + 1
        if not line or line.isspace():
            index += 1
            continue
        if '"' not in line:
            yield Record(number, line.split(delimiter))
            index += 1
            continue
        cells, used = _quoted(lines, index, delimiter)
        glued = used > 1 and (
            (width is not None and len(cells) != width)
            or _are_rows(lines[index : index + used], delimiter, is_row)
        )
        if used and not glued:
            yield Record(number, cells, height=used)
            index += used
        else:
            is_long = len(line) > csv.field_size_limit()
            reason = "a quoted cell is too long" if is_long else _OPEN_QUOTE
            yield Record(number, [], reason)
            index += 1


def _are_rows(lines: list[str], delimiter: str, is_row: Callable[[list[str]], bool]) -> bool:
    first, *others = ([cell.strip() for cell in line.split(delimiter)] for line in lines)
    return is_row(first) and any(map(is_row, others))


def _quoted(lines: list[str], index: int, delimiter: str) -> tuple[list[str], int]:
    """Parse one record that has quotes; return its cells and how many lines it took, 0 if open."""
    for height in (1, MAX_QUOTED_LINES):  # nearly every record is one line: try that first
        window = [f"{line}\n" for line in lines[index : index + height]]
        # Strict about joined lines: text after a closing quote betrays that it was none.
        reader = csv.reader([*window, _SENTINEL], delimiter=delimiter, strict=height > 1)
        try:
            cells = next(reader)
        except csv.Error:
            return [], 0
        if reader.line_num <= len(window):
            return cells, reader.line_num
    return [], 0
