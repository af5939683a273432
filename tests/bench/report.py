"""What a benchmark says at its end: for a person, for a page, for a program."""

from __future__ import annotations

import os
import platform as machine
import statistics
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench import targets
from tests.bench.targets import MEASURES, NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.bench import Findings
    from tests.bench.installation import Installation
    from tests.bench.targets import Figures, Verdict

WIDTH_IN_A_LOG = 110
PACKAGES = ("celery", "kombu", "redis", "Django", "psycopg", "pydantic", "uvicorn")
#: Settings of PostgreSQL that decide what a commit costs.
SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "wal_sync_method",
    "commit_delay",
    "commit_siblings",
)
HEADS = ["median", "R", "F", "ours", "/ R", "/ F", "target", ""]
SPANS = ["smallest to largest", "R", "F", "ours"]
Rows = list[list[str]]


def circumstances(installation: Installation) -> dict[str, Any]:
    """Return machine, versions and settings."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    settings = installation.rows(
        "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", list(SETTINGS)
    )
    return {
        "machine": {
            "processors": os.cpu_count(),
            "model": model,
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "system": f"{machine.system()} {machine.release()} {machine.machine()}",
        },
        "versions": {
            "Python": machine.python_version(),
            "PostgreSQL": installation.rows("SHOW server_version")[0][0],
            "Redis": installation.stack.redis().info("server")["redis_version"],
            **{name: version(name) for name in PACKAGES},
        },
        "settings": {"postgresql": dict(settings)},
    }


def rows(figures: Figures, verdicts: Sequence[Verdict]) -> Rows:
    """Return a row for each measure: medians, ours over each baseline's, the target."""
    found = []
    judged = {verdict.target.measure: verdict for verdict in verdicts}
    for name, measure in MEASURES.items():
        sides = figures.get(name)
        if not sides:
            continue
        row = [f"{measure.title}, {measure.unit}"]
        row += [_middle(sides.get(side, []), measure.digits) for side in NAMES]
        row += [
            f"{targets.ratio(figures, name, side):.2f}" if {side, "ours"} <= set(sides) else ""
            for side in ("raw", "durable")
        ]
        verdict = judged.get(name)
        row += [_wanted(verdict), "ok" if verdict.kept else "MISSED"] if verdict else ["", ""]
        found.append(row)
    return found


def span_rows(figures: Figures) -> Rows:
    """Return a row for each measure: how far its repetitions lie apart."""
    return [
        [measure.title, *(_span(figures[name].get(side, []), measure.digits) for side in NAMES)]
        for name, measure in MEASURES.items()
        if name in figures
    ]


def cost_rows(per_step: dict[str, Any]) -> tuple[list[str], Rows]:
    """Return heads and rows of what a step costs, a column a workload."""
    names = list(per_step)
    kinds = list(next(iter(per_step.values()))["cpu_ms"])
    tables = list(next(iter(per_step.values()))["hot_share"])
    found = [
        ["commits", *(f"{per_step[name]['commits']:.2f}" for name in names)],
        ["Redis commands", *(f"{per_step[name]['commands']:.2f}" for name in names)],
        *(
            [f"CPU ms, {kind}", *(f"{per_step[name]['cpu_ms'][kind]:.3f}" for name in names)]
            for kind in kinds
        ),
        ["CPU ms, all", *(f"{sum(per_step[name]['cpu_ms'].values()):.3f}" for name in names)],
        *(
            [
                f"HOT updates, {table}",
                *(_share(per_step[name]["hot_share"][table]) for name in names),
            ]
            for table in tables
        ),
    ]
    return ["a step", *names], found


def memory_rows(found: Findings) -> Rows:
    """Return a row for each process, MiB."""
    taken = [
        [name, f"{memory.resident:.0f}", f"{memory.proportional:.0f}"]
        for name, memory in found.memory
        if not name.startswith("postgres child")
    ]
    backends = [memory for name, memory in found.memory if name.startswith("postgres child")]
    if backends:
        middle = statistics.median(memory.proportional for memory in backends)
        taken.append([f"postgres, {len(backends)} children, each (median)", "", f"{middle:.0f}"])
    every = sum(memory.proportional for _, memory in found.memory)
    return [*taken, ["all", "", f"{every:.0f}"]]


def tuple_rows(tuples: dict[str, Any]) -> Rows:
    """Return a row for each table."""
    return [
        [
            table["table"],
            f"{table['live']:,}",
            f"{table['dead']:,}",
            str(table["vacuums"]),
            f"{table['MiB']:.0f}",
        ]
        for table in tuples["tables"]
    ]


def tables(found: Findings) -> list[tuple[str, list[str], Rows]]:
    """Return every table: title, heads, rows."""
    made = []
    if found.figures:
        judged = targets.verdicts(found.figures)
        made.append(("Figures", HEADS, rows(found.figures, judged)))
        made.append(("Repetitions", SPANS, span_rows(found.figures)))
    if found.costs:
        heads, lines = cost_rows(found.costs["per_step"])
        made.append(("What a step costs", heads, lines))
        made.append(("Memory", ["process", "RSS MiB", "PSS MiB"], memory_rows(found)))
    if found.tuples:
        title = f"Tables after {found.tuples['steps']:,} steps"
        heads = ["table", "live", "dead", "vacuums", "MiB"]
        made.append((title, heads, tuple_rows(found.tuples)))
    return made


def render(found: Findings, void: Sequence[str]) -> None:
    """Print everything; in a log the tables are as wide as they must be."""
    console = Console(highlight=False, width=None if Console().is_terminal else WIDTH_IN_A_LOG)
    for title, heads, lines in tables(found):
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left", no_wrap=True)
        for line in lines:
            missed = line[-1] == "MISSED"
            table.add_row(*line, style="red" if missed else "bold" if line[0] == "all" else "")
        console.print(table)
    for name, values in found.notes.items():
        console.print(f"  {name}: {_said(values)}", markup=False)
    for verdict in targets.verdicts(found.figures):
        if not verdict.kept:
            console.print(f"  {verdict.sentence}", style="red", markup=False)
    for reason in void:
        console.print(f"  VOID    {reason}", style="yellow", markup=False)


def markdown(found: Findings) -> str:
    """Return the tables for a page."""
    parts = []
    for title, heads, lines in tables(found):
        page = [f"**{title}**", "", "| " + " | ".join(heads) + " |"]
        page.append("|---" + "|--:" * (len(heads) - 1) + "|")
        parts.append("\n".join([*page, *("| " + " | ".join(line) + " |" for line in lines)]))
    return "\n\n".join(parts)


def summary(found: Findings, void: Sequence[str]) -> dict[str, Any]:
    """Return everything as plain data."""
    verdicts = targets.verdicts(found.figures)
    return {
        "figures": found.figures,
        "verdicts": [
            {"measure": v.target.measure, "value": v.value, "kept": v.kept, "said": v.sentence}
            for v in verdicts
        ],
        "void": list(void),
        "foreign_share": found.foreign,
        "notes": found.notes,
        "costs": found.costs,
        "memory_mib": [{"process": name} | asdict(memory) for name, memory in found.memory],
        "tuples": found.tuples,
        "timings": found.timings,
    }


def _middle(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f}" if values else ""


def _span(values: Sequence[float], digits: int) -> str:
    return f"{min(values):,.{digits}f} - {max(values):,.{digits}f}" if values else ""


def _wanted(verdict: Verdict) -> str:
    measure = MEASURES[verdict.target.measure]
    sign = ">=" if measure.more_is_better else "<="
    against = f" x {NAMES[verdict.target.against]}" if verdict.target.against else ""
    return f"{sign} {verdict.target.bound:g}{against}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _said(values: Any) -> str:
    if isinstance(values, list) and all(isinstance(value, float) for value in values):
        return ", ".join(f"{value:.1f}" for value in values)
    return str(values)
