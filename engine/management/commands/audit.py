"""`manage.py audit`: who did what; whether the trail is what was written; the trail for others."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from engine.audit import canonical, verification
from engine.management.interface import OperatorCommand
from engine.models import AuditRecord
from engine.models.audit import SOURCES

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from engine.audit.verification import Finding, Verdict

#: Filter of `list` -> the lookup it is.
FILTERS = {
    "actor": "actor",
    "action": "action",
    "source": "source",
    "kind": "object_kind",
    "id": "object_id",
    "request_id": "request_id",
    "since": "at__gte",
    "until": "at__lte",
}


class Command(OperatorCommand):
    help = "List, verify and export the audit trail: every act of operators, callers and commands."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list records, newest first",
        "verify": "compute the chain again; exit 1 naming each record and seal that does not fit",
        "export": "print records and seals as JSON lines, for somebody else to verify",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--actor")
        parser.add_argument("--action", help="e.g. run.cancel")
        parser.add_argument("--source", choices=SOURCES)
        parser.add_argument("--kind", help="of the thing, e.g. run")
        parser.add_argument("--id", help="of the thing")
        parser.add_argument("--request-id")
        _times(parser)
        parser.add_argument("--limit", type=int, default=50)

    def verify_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--anchor",
            default="",
            metavar="NUMBER:DIGEST",
            help="a head that was kept elsewhere: the chain must still hold it",
        )

    def export_arguments(self, parser: argparse.ArgumentParser) -> None:
        _times(parser)

    def do_list(self, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be 1 or more.")
        wanted = {lookup: options[name] for name, lookup in FILTERS.items() if options[name]}
        rows = AuditRecord.objects.filter(**wanted).order_by("-id")[: options["limit"]]
        if self.json:
            self.write_json([canonical.record(row) for row in rows])
            return
        self.write_table(
            ["ID", "AT", "SOURCE", "ACTOR", "ACTION", "OBJECT", "FROM", "BEFORE", "AFTER"],
            [
                [
                    str(row.pk),
                    f"{row.at:%Y-%m-%d %H:%M:%S}",
                    row.source,
                    row.actor,
                    row.action if row.outcome == "done" else f"{row.action} ({row.outcome})",
                    f"{row.object_kind} {row.object_id}".strip(),
                    row.address,
                    _told(row.before),
                    _told(row.after),
                ]
                for row in rows
            ],
        )

    def do_verify(self, **options: Any) -> None:
        anchor = options["anchor"]
        number, _, digest = anchor.partition(":")
        if anchor and not (number.isdigit() and len(digest) == len(canonical.GENESIS)):
            raise CommandError("--anchor must read NUMBER:DIGEST, as `audit verify` prints it.")
        verdict = verification.verify(anchor=anchor)
        if self.json:
            self.write_json(_document(verdict))
        else:
            self._write(verdict)
        if not verdict.sound:
            sys.exit(1)

    def do_export(self, **options: Any) -> None:
        for line in verification.exported(since=options["since"], until=options["until"]):
            self.stdout.write(canonical.encoded(line).decode())

    def _write(self, verdict: Verdict) -> None:
        for found in verdict.findings:
            self.stdout.write(f"{_named(found)} {found.what}")
        if verdict.count > len(verdict.findings):
            self.stdout.write(f"and {verdict.count - len(verdict.findings)} more")
        if verdict.waiting:
            self.stdout.write(
                f"{verdict.waiting} records wait for their seal for over a minute: is a manager"
                " running?"
            )
        state = "sound" if verdict.sound else f"BROKEN in {verdict.count} places"
        self.stdout.write(
            f"The audit trail is {state}: {verdict.records} records in {verdict.seals} seals,"
            f" {verdict.unsealed} not sealed yet."
        )
        self.stdout.write(f"Head: {verdict.head or 'none'}")


def _times(parser: argparse.ArgumentParser) -> None:
    for name, text in (("--since", "not before then"), ("--until", "not after then")):
        parser.add_argument(name, type=_moment, metavar="MOMENT", help=f"{text}, ISO 8601")


def _moment(text: str) -> datetime:
    try:
        found = parse_datetime(text) or parse_datetime(f"{text}T00:00:00")
    except ValueError:
        found = None
    if found is None:
        raise CommandError(
            f"{text!r} is no moment such as 2026-11-30 or 2026-11-30T05:00:00+01:00."
        )
    return found if found.tzinfo else timezone.make_aware(found)


def _named(found: Finding) -> str:
    where = f" of seal {found.seal}" if found.seal is not None else ""
    return f"Record {found.record}{where}" if found.record is not None else f"Seal {found.seal}"


def _told(values: dict[str, Any] | None) -> str:
    return "" if values is None else json.dumps(values, ensure_ascii=False)


def _document(verdict: Verdict) -> dict[str, Any]:
    return {
        "sound": verdict.sound,
        "records": verdict.records,
        "seals": verdict.seals,
        "unsealed": verdict.unsealed,
        "waiting": verdict.waiting,
        "head": verdict.head or None,
        "broken": verdict.count,
        "findings": [
            {"record": found.record, "seal": found.seal, "what": found.what}
            for found in verdict.findings
        ],
    }
