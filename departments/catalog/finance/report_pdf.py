"""Set the report in print: A4, vector charts, by Typst with the fonts beside this file.

The texts of a statement reach Typst as JSON data, never as markup, so none can be read as code.
The same report gives the same bytes: no clock, no system fonts, no network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import typst

from departments.catalog.finance import charts
from departments.catalog.finance.blocks import PRINT_WIDTH, Chart, Notes, Prose, Table

if TYPE_CHECKING:
    from departments.catalog.finance.blocks import Block, Report

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


def _data(report: Report) -> dict[str, Any]:
    return {
        "title": report.title,
        "subtitle": report.subtitle,
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
                "rows": [{"cells": list(row.cells), "is_sum": row.is_sum} for row in block.rows],
            }
        case _ as unreachable:
            assert_never(unreachable)
