"""What a soak says at its end: for a person, for a page, for a program."""

from __future__ import annotations

import json
import platform as machine
import statistics
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from tests.chaos.soak import fast_paths, kinds, load

if TYPE_CHECKING:
    from tests.chaos.soak.soak import Soak

Rows = list[list[str]]
FAULT_HEADS = ["fault", "struck", "hit", "survived", "median s", "longest s"]
RUN_HEADS = ["run", "accepted", "succeeded", "failed", "cancelled", "open"]
SHOWN = 10


def summary(soak: Soak) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "seed": soak.seed,
        "duration_seconds": soak.duration,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "faults": [blow.words() for blow in soak.agent.blows],
        "faults_hit": len(soak.agent.hits),
        "runs_accepted": soak.book.accepted,
        "runs_by_door": dict(Counter(t.door for t in _accepted(soak))),
        "client_retries": soak.book.retries,
        "operator": dict(soak.operator.acts),
        "quiet_seconds": soak.quiet_seconds,
        "ends": {f"{k[0]} / {k[1]}": n for k, n in soak.verdict.figures["ends"].items()},
        "fast_paths": {path.value: n for path, n in fast_paths.counted(soak.folder).items()},
        "figures": {k: v for k, v in soak.verdict.figures.items() if k != "ends"},
        "failures": soak.failures,
    }


def render(soak: Soak) -> None:
    """Print tables for a terminal; in a log they are as wide as they must be."""
    console = Console(highlight=False, width=None if Console().is_terminal else 140)
    for title, heads, rows in _tables(soak):
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left", no_wrap=not number)
        for row in rows:
            table.add_row(*row, style="bold" if row[0] == "all" else "")
        console.print(table)
    for good, line in _lines(soak):
        mark = "[green]ok  [/green]" if good else "[red]FAIL[/red]"
        console.print(f"  {mark}  {line}", markup=True)
    for heading, found in soak.failures.items():
        console.print(f"\n[red]{heading}[/red]: {len(found)}")
        for line in found[:SHOWN]:
            console.print(f"  {line}", markup=False)


def markdown(soak: Soak) -> str:
    """Return the same as Markdown."""
    found = summary(soak)
    parts = [
        (
            f"{found['at'][:10]}, {found['machine']}, seed {found['seed']}, "
            f"{found['duration_seconds']:.0f} s:"
        )
    ]
    for title, heads, rows in _tables(soak):
        lines = [f"**{title}**", "", "| " + " | ".join(heads) + " |"]
        lines.append("|---" + "|--:" * (len(heads) - 1) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        parts.append("\n".join(lines))
    parts.append("\n".join(f"- {'' if good else '**FAIL** '}{line}" for good, line in _lines(soak)))
    return "\n\n".join(parts)


def as_json(soak: Soak) -> str:
    """Return the same for a program."""
    return json.dumps(summary(soak), indent=2, default=str) + "\n"


def _tables(soak: Soak) -> list[tuple[str, list[str], Rows]]:
    return [
        ("Faults", FAULT_HEADS, _fault_rows(soak)),
        ("Runs", RUN_HEADS, _run_rows(soak)),
    ]


def _fault_rows(soak: Soak) -> Rows:
    rows = []
    blows = soak.agent.blows
    for kind in [*kinds.KINDS, "all"]:
        mine = [blow for blow in blows if kind in {blow.kind, "all"}]
        hit = [blow for blow in mine if blow.hit]
        took = [blow.over - blow.at for blow in hit if blow.over is not None]
        rows.append(
            [
                kind,
                str(len(mine)),
                str(len(hit)),
                str(len(took)),
                f"{statistics.median(took):.1f}" if took else "",
                f"{max(took):.1f}" if took else "",
            ]
        )
    return rows


def _run_rows(soak: Soak) -> Rows:
    ends = soak.verdict.figures["ends"]
    accepted = Counter(ticket.kind for ticket in _accepted(soak))
    rows = []
    for kind in [*load.MIX, "all"]:
        mine = {
            state: sum(n for (k, s), n in ends.items() if kind in {k, "all"} and s == state)
            for state in ("succeeded", "failed", "cancelled")
        }
        number = accepted.total() if kind == "all" else accepted[kind]
        rows.append([kind, str(number), *map(str, mine.values()), str(number - sum(mine.values()))])
    return rows


def _lines(soak: Soak) -> list[tuple[bool, str]]:
    """Return the lines of the verdict, each with whether it is good."""
    verdict, figures = soak.verdict, soak.verdict.figures
    steps = figures["steps"]
    done = steps.get("succeeded", 0)
    doors = Counter(ticket.door for ticket in _accepted(soak))
    hits = len(soak.agent.hits)
    runs = soak.book.accepted
    seconds = soak.duration
    quiet = soak.quiet_seconds
    survived = soak.agent.settled
    return [
        (
            survived,
            f"{hits} faults hit, {hits / seconds * 60:.1f} a minute; all over before the end"
            if survived
            else f"{hits} faults hit; not all of them were over at the end",
        ),
        (
            not soak.book.unanswered,
            (
                f"{runs} runs accepted ({', '.join(f'{n} {door}' for door, n in doors.items())}),"
                f" {runs / seconds:.1f}/s; clients asked again {soak.book.retries} times"
            ),
        ),
        (
            True,
            (
                f"{done} steps succeeded, {done / seconds:.0f}/s; {figures['effects']} effects;"
                f" bodies run {figures['bodies run']} times, {figures['bodies run again']} of them"
                " again"
            ),
        ),
        (
            not fast_paths.missed(soak.folder, seconds=seconds),
            "fast paths: "
            + ", ".join(f"{n} {path.value}" for path, n in fast_paths.counted(soak.folder).items())
            + f" (at least {fast_paths.needed(seconds)} each)",
        ),
        (
            True,
            "the operator: "
            + ", ".join(f"{n} {act}" for act, n in sorted(soak.operator.acts.items())),
        ),
        (
            quiet is not None,
            f"quiet after {quiet:.1f} s" if quiet is not None else "not quiet in time",
        ),
        (not verdict.lost, f"{len(verdict.lost)} lost"),
        (not verdict.doubled, f"{len(verdict.doubled)} doubled"),
        (not verdict.stuck, f"{len(verdict.stuck)} stuck"),
        (
            not verdict.wrong,
            f"{len(verdict.wrong)} wrong ({figures['outputs checked']} outputs checked)",
        ),
        (
            figures["check_invariants"] == "clean",
            f"check_invariants: {figures['check_invariants']}",
        ),
        (not soak.book.refused, f"{len(soak.book.refused)} answers that no outage explains"),
    ]


def _accepted(soak: Soak) -> list[Any]:
    return [ticket for ticket in soak.book.tickets.values() if ticket.accepted_at]


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {machine.system()} {machine.machine()},"
        f" Python {machine.python_version()}"
    )
