"""`manage.py effects`: what steps did outside the database, and answers where nobody knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError

from engine import effect_selectors, effects
from engine.errors import EngineError
from engine.management.interface import OperatorCommand, actor, row_id, run_id
from engine.models.effects import STATES
from engine.representations import EffectEntry

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.models import Effect


class Command(OperatorCommand):
    help = "List and show what steps did outside, and say what became of calls nobody knows about."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list effects, newest first: those of unknown outcome, unless --state says others",
        "show": "show one effect",
        "confirm": "it happened: the step goes on and does not call again",
        "retry": "it did not happen: the step calls again, same key; needs --apply",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--state", choices=[*STATES, "all"], default="unknown")
        parser.add_argument("--department")
        parser.add_argument("--run", type=run_id, metavar="RUN")
        parser.add_argument("--limit", type=int, default=50)

    def show_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, metavar="ID")

    def confirm_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, metavar="ID")
        parser.add_argument(
            "--receipt", metavar="JSON", help="what the step is given as the call's answer"
        )

    def retry_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, nargs="+", metavar="ID")
        parser.add_argument("--apply", action="store_true", help="do it")

    def do_list(self, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be 1 or more.")
        self._write(
            effect_selectors.effects(
                limit=options["limit"],
                state=None if options["state"] == "all" else options["state"],
                department=options["department"],
                run_id=options["run"],
            )
        )

    def do_show(self, **options: Any) -> None:
        row = effect_selectors.effect(effect_id=options["id"])
        if self.json:
            self.write_json(EffectEntry.of(row).model_dump(mode="json"))
            return
        for name, shown in {
            "Effect": f"#{row.pk} {row.name}, {row.state}",
            "Step": f"{row.step_run} of {row.run.automation}, {row.step_run.state}",
            "Run": f"{row.run_id}, {row.run.state}",
            "Key": row.key,
            "Idempotent": "yes: a call of unknown outcome is made again"
            if row.idempotent
            else "no",
            "Attempt": str(row.attempt),
            "Sent": f"{row.sent_at:%Y-%m-%d %H:%M:%S}" if row.sent_at else "",
            "Error": row.error_code,
            "Receipt": "" if row.receipt is None else json.dumps(row.receipt, ensure_ascii=False),
            "Resolved": f"{row.resolved_at:%Y-%m-%d %H:%M:%S} by {row.resolved_by or 'the call'}"
            if row.resolved_at
            else "",
        }.items():
            if shown:
                self.stdout.write(f"{name:<12} {shown}")
        if row.state == "unknown":
            self.stdout.write(
                f"{'Question':<12} "
                + effects.question(effect_id=row.pk, name=row.name, code=row.error_code)
            )

    def do_confirm(self, **options: Any) -> None:
        receipt = None
        if options["receipt"] is not None:
            try:
                receipt = json.loads(options["receipt"])
            except (ValueError, RecursionError):
                raise CommandError("--receipt must be JSON, e.g. '{\"id\": 7}'.") from None
        by = actor()
        row = effect_selectors.effect(effect_id=options["id"])
        self._act([row], lambda pk: effects.confirm(effect_id=pk, actor=by, receipt=receipt))

    def do_retry(self, **options: Any) -> None:
        rows = [effect_selectors.effect(effect_id=found) for found in options["id"]]
        if not options["apply"]:
            self._write(rows)
            if not self.json:
                unknown = sum(row.state == "unknown" for row in rows)
                self.stdout.write(f"Would call {unknown} again. Nothing is changed; add --apply.")
            return
        by = actor()
        self._act(rows, lambda pk: effects.retry(effect_id=pk, actor=by))

    def _act(self, rows: list[Effect], door: Callable[[int], Any]) -> None:
        refused: list[str] = []
        done: list[Effect] = []
        for row in rows:
            try:
                door(row.pk)
            except EngineError as exc:
                refused.append(exc.message)
                continue
            done.append(effect_selectors.effect(effect_id=row.pk))
        if self.json:
            self.write_json([EffectEntry.of(row).model_dump(mode="json") for row in done])
        else:
            for row in done:
                self.stdout.write(
                    f"#{row.pk} {row.state}: {row.name}; step {row.step_run} of run {row.run_id}"
                    f" is {row.step_run.state}"
                )
        if refused:
            raise CommandError("; ".join(refused))

    def _write(self, rows: list[Effect]) -> None:
        if self.json:
            self.write_json([EffectEntry.of(row).model_dump(mode="json") for row in rows])
            return
        self.write_table(
            ["ID", "STATE", "EFFECT", "AUTOMATION", "STEP", "STEP STATE", "ERROR", "SENT", "RUN"],
            [
                [
                    str(row.pk),
                    row.state,
                    row.name,
                    row.run.automation,
                    str(row.step_run),
                    row.step_run.state,
                    row.error_code,
                    f"{row.sent_at:%Y-%m-%d %H:%M:%S}" if row.sent_at else "",
                    str(row.run_id),
                ]
                for row in rows
            ],
        )
