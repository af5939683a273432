"""`manage.py dlq`: dead letters and refused events, and what becomes of them."""

from __future__ import annotations

import argparse
import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError

from engine import dead_letter_selectors, dead_letters, printable
from engine.errors import EngineError
from engine.management.interface import actor, row_id
from engine.models import DeadLetter
from engine.representations import DeadLetterEntry
from orchestration import refused, streams
from orchestration.management.interface import BrokerCommand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestration.refused import RefusedEvent

STATES = [state for state, _label in DeadLetter.STATES]
#: Most dead letters, or events, one call acts on.
MAX_AT_ONCE = 10_000
#: The code of what a step raised without giving it one.
UNEXPECTED = "unexpected_error"
ENTRY = re.compile(r"\d{1,20}-\d{1,20}")
#: A file of letters holds what events carried.
PRIVATE = 0o600


class Command(BrokerCommand):
    help = (
        "Dead letters (steps that failed for good, by number) and refused events (entries of"
        " automation.dlq that became no run, by entry id): list, show, try again, give up."
    )
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list dead letters, or with --events refused events, newest first",
        "show": "show one of them",
        "requeue": "try again: a dead step with fresh attempts, an event as it came or mended",
        "discard": "give up",
        "export": "write all of them as JSON lines",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--state", choices=[*STATES, "all"], default="open")
        _filters(parser)
        parser.add_argument("--limit", type=int, default=50)

    def show_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=either_id, metavar="ID")

    def requeue_arguments(self, parser: argparse.ArgumentParser) -> None:
        _chosen_arguments(parser)
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            type=_change,
            metavar="FIELD=VALUE",
            help="change a field of an event before it is sent again; empty takes it away",
        )

    def discard_arguments(self, parser: argparse.ArgumentParser) -> None:
        _chosen_arguments(parser)

    def export_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--state", choices=[*STATES, "all"], default="open")
        _filters(parser)
        parser.add_argument("--to", type=Path, metavar="FILE", help="a new file; else stdout")

    def do_list(self, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be 1 or more.")
        if options["events"]:
            self._write_events(_events(options, limit=options["limit"]))
        else:
            self._write(_letters(options, limit=options["limit"], state=options["state"]))

    def do_show(self, **options: Any) -> None:
        if isinstance(options["id"], str):
            self._show_event(refused.one(entry_id=options["id"]))
            return
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
                self.stdout.write(f"{name:<12} {printable.line(shown)}")
        if row.error_code == UNEXPECTED:
            # A message may hold anything, so none is stored: where it was raised is in the log.
            self.stdout.write(f"Where        manage.py logs --run {row.run_id} --level ERROR")

    def _show_event(self, event: RefusedEvent) -> None:
        if self.json:
            self.write_json(event.document)
            return
        for name, shown in {
            "Event": f"{event.id}, refused {event.refused_at}",
            "Error": f"{event.error_code}: {event.reason}",
            "Was": f"{event.source_entry_id} of {streams.EVENTS}",
        }.items():
            self.stdout.write(f"{name:<12} {printable.line(shown)}")
        for name, value in event.shown.items():
            self.stdout.write(f"  {printable.line(name):<16} {printable.line(value)}")

    def do_requeue(self, **options: Any) -> None:
        changes = dict(options["set"])
        letters, events = self._chosen(options)
        if changes and not events:
            raise CommandError("--set changes events; a dead step is tried again as it is.")
        if events:
            sent = [(event, refused.mended(event, changes)) for event in events]
            by_id = {event.id: fields for event, fields in sent}
            self._act_on_events(
                lambda event: f"sent again as {refused.requeue(event, by_id[event.id])}",
                events,
                "requeue",
                apply=options["apply"],
            )
        if letters or not events:
            self._act(dead_letters.requeue, letters, "requeue", apply=options["apply"])

    def do_discard(self, **options: Any) -> None:
        letters, events = self._chosen(options)
        if events:
            self._act_on_events(_discarded, events, "discard", apply=options["apply"])
        if letters or not events:
            self._act(dead_letters.discard, letters, "discard", apply=options["apply"])

    def do_export(self, **options: Any) -> None:
        if options["events"]:
            found = [event.document for event in _events(options, limit=MAX_AT_ONCE)]
        else:
            found = [
                DeadLetterEntry.of(row).model_dump(mode="json")
                for row in _letters(options, limit=MAX_AT_ONCE, state=options["state"])
            ]
        with _target(options["to"], self.stdout) as target:
            for document in found:
                target.write(printable.document(json.dumps(document, ensure_ascii=False)) + "\n")
        note = f"{len(found)} written" + (f" to {options['to']}" if options["to"] else "")
        if len(found) == MAX_AT_ONCE:
            note += f"; only the newest {MAX_AT_ONCE:,}: there may be more"
        self.stderr.write(note)

    def _chosen(self, options: dict[str, Any]) -> tuple[list[DeadLetter], list[RefusedEvent]]:
        if bool(options["id"]) == options["all"]:
            raise CommandError("Name dead letters or events by their id, or say --all.")
        if options["all"] and options["events"]:
            return [], _events(options, limit=MAX_AT_ONCE)
        if options["all"]:
            return _letters(options, limit=MAX_AT_ONCE, state="open"), []
        return (
            [
                dead_letter_selectors.dead_letter(dead_letter_id=found)
                for found in options["id"]
                if isinstance(found, int)
            ],
            [refused.one(entry_id=found) for found in options["id"] if isinstance(found, str)],
        )

    def _act_on_events(
        self,
        door: Callable[[RefusedEvent], str],
        events: list[RefusedEvent],
        verb: str,
        *,
        apply: bool,
    ) -> None:
        if not apply:
            self._write_events(events)
            self._would(verb, len(events))
            return
        gone: list[str] = []
        done: list[RefusedEvent] = []
        for event in events:
            try:
                said = door(event)
            except EngineError as exc:
                gone.append(f"{event.id}: {exc.message}")
                continue
            done.append(event)
            if not self.json:
                self.stdout.write(f"{event.id} {said}")
        if self.json:
            self.write_json([event.document for event in done])
        if gone:
            raise CommandError("; ".join(gone))
        self._say_nothing(verb, done)

    def _act(
        self, door: Callable[..., Any], rows: list[DeadLetter], verb: str, *, apply: bool
    ) -> None:
        if not apply:
            self._write(rows)
            self._would(verb, len(rows))
            return
        by = actor()
        kept: list[str] = []
        done: list[DeadLetter] = []
        for row in rows:
            try:
                door(dead_letter_id=row.pk, actor=by)
            except EngineError as exc:
                kept.append(f"#{row.pk}: {exc.message}")
                continue
            done.append(dead_letter_selectors.dead_letter(dead_letter_id=row.pk))
        if self.json:
            self.write_json([DeadLetterEntry.of(row).model_dump(mode="json") for row in done])
        else:
            for row in done:
                self.stdout.write(f"#{row.pk} {row.state}: {row.step} of run {row.run_id}")
        if kept:
            raise CommandError("; ".join(kept))
        self._say_nothing(verb, done)

    def _say_nothing(self, verb: str, done: Sequence[object]) -> None:
        if not done and not self.json:
            self.stdout.write(f"Nothing to {verb}.")

    def _would(self, verb: str, number: int) -> None:
        if not self.json:
            self.stdout.write(f"Would {verb} {number}. Nothing is changed; add --apply.")

    def _write_events(self, events: list[RefusedEvent]) -> None:
        if self.json:
            self.write_json([event.document for event in events])
            return
        self.write_table(
            ["ID", "ERROR", "REASON", "AUTOMATION"],
            [
                [event.id, event.error_code, event.reason[:100], event.automation]
                for event in events
            ],
        )

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


def either_id(text: str) -> int | str:
    """Parse the number of a dead letter or the entry id of a refused event (an argparse type)."""
    return text if ENTRY.fullmatch(text) else row_id(text)


def _change(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return name, value


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", action="store_true", help="refused events instead")
    parser.add_argument("--department")
    parser.add_argument("--automation")
    parser.add_argument("--error-code")


def _chosen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", type=either_id, nargs="*", metavar="ID")
    parser.add_argument("--all", action="store_true", help="every open one, within the filters")
    _filters(parser)
    parser.add_argument("--apply", action="store_true", help="do it, not a dry run")


def _letters(options: dict[str, Any], *, limit: int, state: str) -> list[DeadLetter]:
    return dead_letter_selectors.dead_letters(
        limit=limit,
        state=None if state == "all" else state,
        department=options["department"],
        automation=options["automation"],
        error_code=options["error_code"],
    )


def _events(options: dict[str, Any], *, limit: int) -> list[RefusedEvent]:
    return refused.newest(
        limit=limit,
        error_code=options["error_code"],
        department=options["department"],
        automation=options["automation"],
    )


def _discarded(event: RefusedEvent) -> str:
    refused.discard(event)
    return "discarded"


@contextmanager
def _target(path: Path | None, stdout: Any) -> Iterator[Any]:
    """Give where to write: a new file that is its owner's, or the command's output."""
    if path is None:
        yield stdout
        return
    try:
        path.touch(mode=PRIVATE, exist_ok=False)
        with path.open("w", encoding="utf-8") as target:
            yield target
    except FileExistsError:
        raise CommandError(f"{path} exists: name a new file.") from None
    except OSError as exc:
        raise CommandError(f"Cannot write {path}: {exc.strerror}.") from exc
