"""Set the report in print: A4, vector charts, by Typst with the fonts beside this file.

The texts of a statement reach Typst as JSON data, never as markup, so none can be read as code.
The same report gives the same bytes: no clock, no system fonts, no network.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import typst

from departments.catalog.finance import charts
from departments.catalog.finance.blocks import PRINT_WIDTH, Chart, Notes, Prose, Table

if TYPE_CHECKING:
    from departments.catalog.finance.blocks import Block, Report

_NO_GLYPH = re.compile(
    "[\u0900-\u0fff\u2e80-\ud7ff\ue000-\ufaff\U00010000-\U000e00ff\U000e01f0-\U0010ffff]"
)
_JOINERS = re.compile("[\u200d\ufe00-\ufe0f]")
_ENDLESS = re.compile(r"[^\s\d.,]{25,}")
_PIECE = re.compile(r".{8}")
_FOLDER = Path(__file__).parent


def document(report: Report) -> bytes:
    """Return the report as PDF."""
    return bytes(
        typst.compile(
            str(_FOLDER / "report.typ"),
            root=str(_FOLDER),
            font_paths=[str(_FOLDER / "fonts")],
            ignore_system_fonts=True,
            sys_inputs={"report": json.dumps(_data(report))},
        )
    )


def breakable(text: str) -> str:
    """Return text whose endless words may break, or they would run into the next cell.

    Characters of scripts no font here has become a box: seen to be missing, not dropped.
    """
    text = _JOINERS.sub("", _NO_GLYPH.sub("\u25a1", text))
    return _ENDLESS.sub(lambda word: _PIECE.sub("\\g<0>\u200b", word[0]), text)


def _data(report: Report) -> dict[str, Any]:
    return {
        "title": breakable(report.title),
        "subtitle": breakable(report.subtitle),
        "notice": report.notice,
        "footer": report.footer,
        "summary": list(report.summary),
        "figures": [
            {"label": f.label, "value": f.value, "note": f.note, "negative": f.negative}
            for f in report.figures
        ],
        "sections": [
            {"title": section.title, "blocks": [_block(block) for block in section.blocks]}
            for section in report.sections
        ],
    }


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Prose():
            return {"kind": "prose", "text": block.text}
        case Notes():
            return {"kind": "notes", "items": [list(item) for item in block.items]}
        case Chart():
            svg = charts.for_print(block.draw(PRINT_WIDTH, "print"))
            return {"kind": "chart", "alt": block.alt, "svg": svg}
        case Table():
            return {
                "kind": "table",
                "caption": block.caption,
                "dense": block.dense,
                "columns": [{"title": c.title, "kind": c.kind} for c in block.columns],
                "rows": [
                    {"cells": [breakable(cell) for cell in row.cells], "is_sum": row.is_sum}
                    for row in block.rows
                ],
            }
        case _ as unreachable:
            assert_never(unreachable)
