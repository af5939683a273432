"""The parts a report is made of, ready to be set on a page or in print: text, no numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE_WIDTH, PRINT_WIDTH, PHONE_WIDTH = 960, 680, 350
"""Widths charts are drawn for, in their own units: scaled by little, labels stay legible."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A headline figure with a word on what it means."""

    label: str
    value: str
    note: str = ""
    negative: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A table column: texts wrap, labels do not; numbers stand to the right."""

    title: str
    kind: Literal["text", "label", "number", "wide number"] = "text"


@dataclass(frozen=True, slots=True)
class Row:
    """A table row; `sum` rows are set apart."""

    cells: Sequence[str]
    is_sum: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption; `dense` ones have many narrow columns."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    dense: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: what it shows in words, and how to draw it for a width under a name."""

    alt: str
    draw: Callable[[int, str], str]


@dataclass(frozen=True, slots=True)
class Notes:
    """Short paragraphs, each with a word in front that says what it is about."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph."""

    text: str


Block = Table | Chart | Notes | Prose


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report under a heading."""

    slug: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    """The whole report."""

    title: str
    subtitle: str
    notice: str
    figures: Sequence[Figure]
    summary: Sequence[str]
    sections: Sequence[Section] = field(default_factory=list)
    footer: str = ""
