"""Follow a run to its end on a terminal: one live line, then what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from engine import dead_letter_selectors, selectors
from engine.states import RUN_TERMINAL, RunState, StepState

if TYPE_CHECKING:
    from uuid import UUID

    from rich.console import Console

    from engine.models import Run

POLL_SECONDS = 0.2
#: Steps in these states will move without an operator.
_MOVING = {StepState.READY, StepState.QUEUED, StepState.RUNNING, StepState.RETRY_WAIT}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a watched run stood when watching it made no more sense."""

    run: Run
    succeeded: bool
    text: str


def follow(*, run_id: UUID, console: Console) -> Outcome:
    """Show the progress of a run until it has ended, or is blocked and nothing of it moves."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeElapsedColumn(),
    )
    shown = ""
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1)
        while True:
            run = selectors.run(run_id=run_id)
            progress = selectors.progress(run_id=run_id)
            bar.update(
                task,
                description=f"{run.automation} [bold]{run.state.replace('_', ' ')}[/bold]",
                completed=progress.done,
                total=max(progress.total, 1),
            )
            # Without a terminal there is no bar: a line for each change instead.
            line = f"{run.state}: {progress.done} of {progress.total} steps"
            if not console.is_terminal and line != shown:
                console.print(line)
                shown = line
            if run.state in RUN_TERMINAL:
                return Outcome(run, run.state == RunState.SUCCEEDED, ended(run))
            states = {StepState(state) for state, number in progress.by_state.items() if number}
            if run.state == RunState.BLOCKED and not states & _MOVING:
                return Outcome(run, succeeded=False, text=blocked(run))
            time.sleep(POLL_SECONDS)


def ended(run: Run) -> str:
    """Say in one line how a run ended."""
    took = f" after {run.duration.total_seconds():.1f} s" if run.duration is not None else ""
    why = f": {run.error_code}: {run.error_message}" if run.error_code else ""
    return f"Run {run.id} {run.state.replace('_', ' ')}{took}{why}"


def blocked(run: Run) -> str:
    """Say what a blocked run waits for, and how to go on."""
    letters = dead_letter_selectors.dead_letters(state="open", run_id=run.id, limit=3)
    named = ", ".join(f"#{row.pk} {row.step}: {row.error_code}" for row in letters)
    first = letters[0].pk if letters else "ID"
    return (
        f"Run {run.id} is blocked by dead letter {named or 'unknown'}; "
        f"mend the cause, then: python manage.py dlq requeue {first} --apply"
    )
