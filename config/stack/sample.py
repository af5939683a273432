"""The report every start makes from the sample ledger: follow it, put it where a person looks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DatabaseError, connections
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from engine import artifacts, run_selectors, runs, selectors
from engine.management import watching
from engine.states import RUN_TERMINAL, RunState, StepState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from rich.console import Console

AUTOMATION = "finance.cashflow_report"
STARTED_BY = "up"
#: Newest first: an interrupted report is among the last few.
LOOKED_AT = 50
MOVING = {StepState.READY, StepState.QUEUED, StepState.RUNNING, StepState.RETRY_WAIT}


@dataclass(frozen=True, kw_only=True)
class Report:
    """How the sample run ended and where its files lie."""

    succeeded: bool
    text: str
    steps: int
    files: list[Path]
    continued: bool


def begin() -> tuple[UUID, bool]:
    """Start the report, or find the one a killed start left unfinished; say which."""
    for run in run_selectors.runs(
        wanted=run_selectors.Wanted(automation=AUTOMATION), limit=LOOKED_AT
    ):
        if run.created_by == STARTED_BY and RunState(run.state) not in RUN_TERMINAL:
            return run.id, True
    submitted = runs.submit(
        automation=AUTOMATION, input={}, trigger="command", created_by=STARTED_BY
    )
    return submitted.run_id, False


def follow(
    *, run_id: UUID, continued: bool, console: Console, tick: Callable[[], object]
) -> Report:
    """Show the progress until the run has ended or cannot go on; `tick` waits, or raises."""
    columns = (
        TextColumn("  [cyan]▸[/cyan] Report      "),
        BarColumn(bar_width=32, complete_style="cyan", finished_style="green"),
        TextColumn("{task.completed:.0f} of {task.total:.0f} steps"),
        TimeElapsedColumn(),
    )
    # No refreshing thread: children may only be started from a process with one thread.
    with Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        # A file would get empty lines in place of the bar.
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=1)
        while True:
            tick()
            try:
                report = _look(run_id=run_id, continued=continued, bar=bar, task=task)
            except DatabaseError:
                # The server is being started again; the run is durable, so look later.
                connections.close_all()
                continue
            if report is not None:
                return report


def _look(*, run_id: UUID, continued: bool, bar: Progress, task: object) -> Report | None:
    run = selectors.run(run_id=run_id)
    progress = selectors.progress(run_id=run_id)
    bar.update(task, completed=progress.done, total=max(progress.total, 1))  # type: ignore[arg-type] # rich's id
    bar.refresh()
    state = RunState(run.state)
    if state in RUN_TERMINAL:
        succeeded = state == RunState.SUCCEEDED
        text = watching.ended(run)
    elif state == RunState.BLOCKED and not _moves(progress.by_state):
        succeeded, text = False, watching.blocked(run)
    else:
        return None
    return Report(
        succeeded=succeeded,
        text=text,
        steps=progress.done,
        files=collect(run_id=run_id),
        continued=continued,
    )


def _moves(by_state: dict[str, int]) -> bool:
    return any(number and StepState(state) in MOVING for state, number in by_state.items())


def collect(*, run_id: UUID) -> list[Path]:
    """Copy the files a run's output names to `var/reports/<run>/`, the page to read first."""
    folder = Path(settings.VAR_DIR) / "reports" / str(run_id)
    copied = []
    for file in _files_in(selectors.output(run_id=run_id)):
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / Path(file["name"]).name
        with artifacts.open_content(sha256=file["sha256"]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        copied.append(target)
    order = {".html": 0, ".pdf": 1, ".csv": 2}
    return sorted(set(copied), key=lambda path: (order.get(path.suffix, 9), path.name))


def _files_in(output: Any) -> Iterator[dict[str, str]]:
    """Yield the artifacts an output refers to; the others are working material."""
    if isinstance(output, dict):
        if {"sha256", "name"} <= output.keys():
            yield output
            return
        output = list(output.values())
    if isinstance(output, list):
        for value in output:
            yield from _files_in(value)
