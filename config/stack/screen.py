"""What `up` shows: one line per stage, a summary, then the log with a prefix per process."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from rich.box import ROUNDED
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLES = ("cyan", "magenta", "green", "yellow", "blue", "bright_magenta", "bright_cyan")
#: Lines kept while the start screen is shown.
HELD_LINES = 2000
TITLE_COLUMNS = 12
NOTE_COLUMNS = 44


class Screen:
    """Write to the terminal; hold the log back until the start screen is complete."""

    def __init__(self) -> None:
        """Begin to count the seconds of the start."""
        self.began = time.monotonic()
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._held: deque[tuple[str, str]] = deque(maxlen=HELD_LINES)
        self._open = False
        self._styles: dict[str, str] = {"up": "bold"}
        self._width = len("orchestrator")
        self._pending = ""

    def title(self, text: str) -> None:
        """Begin the start screen."""
        self.console.print(f"\n  [bold]{text}[/bold]\n")

    def begin(self, title: str) -> None:
        """Show a stage that has begun; only a terminal can take the line back."""
        if self.console.is_terminal:
            self._pending = title
            self.console.print(f"  [dim]· {title} …[/dim]", end="\r")

    def done(self, title: str, *, seconds: float, note: str = "") -> None:
        """Show a stage that is complete."""
        self._clear()
        line = Text("  ")
        line.append("✓ ", style="green")
        line.append(f"{title:<{TITLE_COLUMNS}} ")
        line.append(f"{note:<{NOTE_COLUMNS}}", style="dim")
        line.append(f"{seconds:6.1f} s", style="dim")
        self.console.print(line)

    def failed(self, title: str, *, reason: str) -> None:
        """Show a stage that did not succeed."""
        self._clear()
        line = Text("  ")
        line.append("✗ ", style="bold red")
        line.append(f"{title:<{TITLE_COLUMNS}} ")
        line.append(reason)
        self.console.print(line)

    def remark(self, text: str) -> None:
        """Show something worth knowing."""
        self._clear()
        self.console.print(Text(f"    {text}", style="yellow"))

    def summary(self, *, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Show the box that stays on the screen when everything is up."""
        table = Table.grid(padding=(0, 2))
        for label, value in rows:
            table.add_row(Text(label, style="dim"), Text(value, overflow="fold"))
        panel = Panel(
            table,
            title=title,
            title_align="left",
            box=ROUNDED,
            border_style="green",
            padding=(0, 1),
        )
        self.console.print()
        self.console.print(_indented(panel), soft_wrap=False)

    def say(self, name: str, line: str) -> None:
        """Show a line of a process, or keep it until the log is open."""
        if not self._open:
            self._held.append((name, line))
            return
        style = self._styles.setdefault(name, STYLES[(len(self._styles) - 1) % len(STYLES)])
        prefix = Text(f"{name:<{self._width}} │ ", style=style)
        try:
            # What a process says is shown as it is, its own colours included on a terminal.
            self.console.print(prefix + Text.from_ansi(line))
        except OSError:
            survive_closed_terminal()

    def open_log(self) -> None:
        """Show what was held back; from now on every line at once."""
        self._open = True
        held, self._held = list(self._held), deque(maxlen=HELD_LINES)
        if held:
            self.console.print()
        for name, line in held:
            self.say(name, line)

    def drop_log(self) -> None:
        """Forget what was held back."""
        self._held.clear()

    def last_lines(self, name: str, *, limit: int) -> list[str]:
        """Return the last lines held back of one process."""
        return [line for said_by, line in self._held if said_by == name][-limit:]

    def widen(self, names: Sequence[str]) -> None:
        """Make room for the longest name."""
        self._width = max([self._width, *(len(name) for name in names)])

    def _clear(self) -> None:
        if self._pending:
            self.console.file.write("\r\x1b[2K")
            self._pending = ""


def _indented(panel: Panel) -> Table:
    grid = Table.grid(padding=(0, 0, 0, 2), expand=False)
    grid.add_row(panel)
    return grid


def survive_closed_terminal() -> None:
    """Go on quietly when nobody reads any more: a closed terminal must not stop the drain."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())
    os.close(null)


#: The screen of this process: shared by what runs before Django and what runs in it.
MAIN = Screen()
