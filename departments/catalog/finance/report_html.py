"""Set the report as one HTML page: no script, no network, one style sheet inside."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from departments.catalog.finance.blocks import (
    PAGE_WIDTH,
    PHONE_WIDTH,
    Chart,
    Notes,
    Prose,
    Table,
)
from departments.catalog.finance.money import MINUS

if TYPE_CHECKING:
    from departments.catalog.finance.blocks import Block, Figure, Report, Section

LONG_FIGURE = 14
"""Characters of a headline figure from which on it is set smaller."""
_STYLE = Path(__file__).with_name("report.css")


@cache
def _style() -> str:
    return _STYLE.read_text(encoding="utf-8")


def page(report: Report) -> bytes:
    """Return the page as UTF-8. Every text of the statement is escaped on its way in."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    title = escape(report.title)
    notice = f'<p class="notice" role="note">{escape(report.notice)}</p>' if report.notice else ""
    summary = "".join(f"<li>{escape(line)}</li>" for line in report.summary)
    contents = "".join(
        f'<li><a href="#{part.slug}">{escape(part.title)}</a></li>' for part in report.sections
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{title}</title><style>{style}</style></head><body>",
        f"<main><header><h1>{title}</h1>",
        f'<p class="sub">{escape(report.subtitle)}</p>{notice}</header>',
        f'<dl class="figures">{"".join(_figure(item) for item in report.figures)}</dl>',
        f'<ul class="summary">{summary}</ul>' if summary else "",
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav>',
        *(_section(part) for part in report.sections),
        f"</main><footer>{escape(report.footer)}</footer></body></html>\n",
    ]
    return "".join(parts).encode()


def _figure(figure: Figure) -> str:
    tones = ["negative"] * figure.negative + ["long"] * (len(figure.value) > LONG_FIGURE)
    tone = f' class="{" ".join(tones)}"' if tones else ""
    return (
        f"<div><dt>{escape(figure.label)}</dt><dd{tone}>{escape(figure.value)}</dd>"
        f'<dd class="note">{escape(figure.note)}</dd></div>'
    )


def _section(section: Section) -> str:
    blocks = "".join(_block(block) for block in section.blocks)
    return (
        f'<section id="{section.slug}" aria-labelledby="{section.slug}-title">'
        f'<h2 id="{section.slug}-title">{escape(section.title)}</h2>{blocks}</section>'
    )


def _block(block: Block) -> str:
    match block:
        case Prose():
            return f"<p>{escape(block.text)}</p>"
        case Notes():
            items = "".join(
                f"<div><dt>{escape(word)}</dt><dd>{escape(text)}</dd></div>"
                for word, text in block.items
            )
            return f'<dl class="notes">{items}</dl>'
        case Chart():
            return _chart(block)
        case Table():
            return _table(block)
        case _ as unreachable:
            assert_never(unreachable)


def _chart(chart: Chart) -> str:
    """Set a chart twice, for wide and for narrow screens; the style sheet shows one."""
    alt = f'<svg role="img" aria-label="{escape(chart.alt)}" '
    return "".join(
        f'<div class="chart {name}">{chart.draw(width, name).replace("<svg ", alt, 1)}</div>'
        for width, name in ((PAGE_WIDTH, "wide"), (PHONE_WIDTH, "narrow"))
    )


def _table(table: Table) -> str:
    kinds = [column.kind for column in table.columns]
    head = "".join(
        f'<th scope="col" class="{column.kind}">{escape(column.title)}</th>'
        for column in table.columns
    )
    rows = []
    for row in table.rows:
        cells = "".join(
            _cell(text, kind, is_first=index == 0)
            for index, (text, kind) in enumerate(zip(row.cells, kinds, strict=True))
        )
        rows.append(f'<tr class="sum">{cells}</tr>' if row.is_sum else f"<tr>{cells}</tr>")
    dense = ' class="dense"' if table.dense else ""
    caption = escape(table.caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table{dense}>'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(text: str, kind: str, *, is_first: bool) -> str:
    tone = f"{kind} negative" if kind == "number" and text.startswith(MINUS) else kind
    if is_first:
        return f'<th scope="row" class="{tone}">{escape(text)}</th>'
    return f'<td class="{tone}">{escape(text)}</td>'
