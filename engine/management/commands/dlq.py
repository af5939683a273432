"""`manage.py dlq`: dead letters, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError

from engine import dead_letter_selectors, dead_letters
from engine.errors import EngineError
from engine.management.interface import OperatorCommand, actor, row_id
from engine.models import DeadLetter
from engine.representations import DeadLetterEntry

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

STATES = [state for state, _label in DeadLetter.STATES]
#: Most dead letters one call acts on.
MAX_AT_ONCE = 10_000
#: The code of what a step raised without giving it one.
UNEXPECTED = "unexpected_error"


class Command(OperatorCommand):
    help = "List, show, requeue and discard dead letters: steps that failed for good."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list dead letters, newest first",
        "show": "show one dead letter",
        "requeue": "try dead steps again with fresh attempts; several need --apply",
        "discard": "give dead steps up; shows what it would do unless --apply",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--state", choices=[*STATES, "all"], default="open")
        _filters(parser)
        parser.add_argument("--limit", type=int, default=50)

    def show_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, metavar="ID")

    def requeue_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, nargs="*", metavar="ID")
        parser.add_argument("--all", action="store_true", help="every open one, within the filters")
        _filters(parser)
        parser.add_argument("--apply", action="store_true", help="do it")

    discard_arguments = requeue_arguments

    def do_list(self, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be 1 or more.")
        state = None if options["state"] == "all" else options["state"]
        self._write(
            dead_letter_selectors.dead_letters(
                limit=options["limit"],
                state=state,
                department=options["department"],
                automation=options["automation"],
                error_code=options["error_code"],
            )
        )

    def do_show(self, **options: Any) -> None:
        row = dead_letter_selectors.dead_letter(dead_letter_id=options["id"])
        if self.json:
            self.write_json(DeadLetterEntry.of(row).model_dump(mode="json"))
            return
        for name, shown in {
            "Dead letter": f"#{row.pk}, {row.state}",
            "Step": f"{row.step} of {row.automation}",
            "Run": str(row.run_id),
            "Error": f"{row.error_code}: {row.error_message}",
            "Attempts": f"{row.attempts}, workers lost {row.crashes}",
            "Created": f"{row.created_at:%Y-%m-%d %H:%M:%S}",
            "Resolved": f"{row.resolved_at:%Y-%m-%d %H:%M:%S} by {row.resolved_by}"
            if row.resolved_at
            else "",
        }.items():
            if shown:
                self.stdout.write(f"{name:<12} {shown}")
        if row.error_code == UNEXPECTED:
            # A message may hold anything, so none is stored: where it was raised is in the log.
            self.stdout.write(f"Where        manage.py logs --run {row.run_id} --level ERROR")

    def do_requeue(self, **options: Any) -> None:
        rows = self._chosen(options)
        # One named letter is what its name says; several are looked at first.
        single = len(options["id"]) == 1 and not options["all"]
        self._act(dead_letters.requeue, rows, "requeue", apply=options["apply"] or single)

    def do_discard(self, **options: Any) -> None:
        rows = self._chosen(options)
        self._act(dead_letters.discard, rows, "discard", apply=options["apply"])

    def _chosen(self, options: dict[str, Any]) -> list[DeadLetter]:
        if bool(options["id"]) == options["all"]:
            raise CommandError("Name dead letters by their number, or say --all.")
        if options["all"]:
            return dead_letter_selectors.dead_letters(
                limit=MAX_AT_ONCE,
                state="open",
                department=options["department"],
                automation=options["automation"],
                error_code=options["error_code"],
            )
        return [dead_letter_selectors.dead_letter(dead_letter_id=found) for found in options["id"]]

    def _act(
        self, door: Callable[..., Any], rows: list[DeadLetter], verb: str, *, apply: bool
    ) -> None:
        if not apply:
            self._write(rows)
            if not self.json:
                self.stdout.write(f"Would {verb} {len(rows)}. Nothing is changed; add --apply.")
            return
        by = actor()
        refused: list[str] = []
        done: list[DeadLetter] = []
        for row in rows:
            try:
                door(dead_letter_id=row.pk, actor=by)
            except EngineError as exc:
                refused.append(f"#{row.pk}: {exc.message}")
                continue
            done.append(dead_letter_selectors.dead_letter(dead_letter_id=row.pk))
        if self.json:
            self.write_json([DeadLetterEntry.of(row).model_dump(mode="json") for row in done])
        else:
            for row in done:
                self.stdout.write(f"#{row.pk} {row.state}: {row.step} of run {row.run_id}")
        if refused:
            raise CommandError("; ".join(refused))

    def _write(self, rows: list[DeadLetter]) -> None:
        if self.json:
            self.write_json([DeadLetterEntry.of(row).model_dump(mode="json") for row in rows])
            return
        self.write_table(
            ["ID", "STATE", "AUTOMATION", "STEP", "ERROR", "ATTEMPTS", "CREATED", "RUN"],
            [
                [
                    str(row.pk),
                    row.state,
                    row.automation,
                    row.step,
                    row.error_code,
                    str(row.attempts),
                    f"{row.created_at:%Y-%m-%d %H:%M:%S}",
                    str(row.run_id),
                ]
                for row in rows
            ],
        )


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--department")
    parser.add_argument("--automation")
    parser.add_argument("--error-code")
