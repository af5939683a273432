"""`manage.py doctor`: the guide's daily routine against its thresholds, in seconds."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from rich.text import Text

from config.doctor import routine
from config.stack import startup
from engine import printable
from engine.management.interface import Interface
from engine.postgresql import bounded

if TYPE_CHECKING:
    import argparse

#: No single answer of the database is waited for longer, in seconds.
ANSWER_SECONDS = 4.0


class Command(Interface):
    help = (
        "Run the daily routine: health, latency, errors, lag, queues, workers, dead letters,"
        " memory, backup. A line each with value, limit and its place in the runbook; exit 1 when"
        " one is over. Starts nothing, changes nothing, ends within seconds whatever hangs."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--url", help="where web answers (ENGINE_URL, else this machine's last `up`)"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, **options: Any) -> None:
        bounded.bound_answers(ANSWER_SECONDS)
        began = time.monotonic()
        lines = routine.run(routine.all_looks(_address(options["url"])))
        seconds = round(time.monotonic() - began, 1)
        over = [line for line in lines if not line.found.ok]
        if options["json"]:
            self.write_json(_document(lines) | {"seconds": seconds})
        else:
            self._show(lines)
        if over:
            sys.exit(1)

    def _show(self, lines: list[routine.Line]) -> None:
        console = self.console()
        titles = max(len(line.check.title) for line in lines)
        said = {line.check.name: printable.line(line.found.value) for line in lines}
        values = max(map(len, said.values()))
        limits = max(len(line.check.limit) for line in lines)
        for line in lines:
            good = line.found.ok
            # Appended: the style that a Text is made with is that of the whole line.
            shown = Text().append("✓ " if good else "✗ ", style="green" if good else "bold red")
            shown.append(f"{line.check.title:<{titles}}  ", style="" if good else "bold")
            value = said[line.check.name]
            shown.append(f"{value:<{values}}  ", style="" if good else "bold red")
            shown.append(f"{line.check.limit:<{limits}}  ", style="dim")
            shown.append(line.check.runbook, style="dim" if good else "cyan")
            console.print(shown, soft_wrap=True)
            if line.found.note:
                note = printable.line(line.found.note)
                console.print(Text(f"  {'':<{titles}}  {note}", style="dim"), soft_wrap=True)
        over = sum(not line.found.ok for line in lines)
        total = len(lines)
        console.print()
        console.print(
            f"{over} of {total} over the limit: follow the runbook from the top."
            if over
            else f"All {total} within their limits.",
            style="bold red" if over else "green",
        )


def _address(given: str | None) -> str:
    default = f"http://127.0.0.1:{startup.remembered_ports().web}"
    url = (given or os.environ.get("ENGINE_URL") or default).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise CommandError(f"--url must begin with http:// or https://, not {url!r}.")
    return url


def _document(lines: list[routine.Line]) -> dict[str, Any]:
    return {
        "status": "ok" if all(line.found.ok for line in lines) else "over",
        "checked_at": datetime.now(UTC).isoformat(),
        "checks": [
            {
                "name": line.check.name,
                "title": line.check.title,
                "ok": line.found.ok,
                "value": line.found.value,
                "number": line.found.number,
                "limit": line.check.limit,
                "note": line.found.note,
                "runbook": line.check.runbook,
            }
            for line in lines
        ],
    }
