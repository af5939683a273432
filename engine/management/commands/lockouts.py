"""`manage.py lockouts`: failed sign-ins, and letting people try again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError
from django.utils import timezone

from engine.access import lockouts
from engine.management.interface import OperatorCommand, row_id

if TYPE_CHECKING:
    import argparse


class Command(OperatorCommand):
    help = "List failed sign-ins and their locks; let people try again."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list what failed and is not forgotten, the latest first",
        "clear": "forget failures, so that signing in works again at once",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--locked", action="store_true", help="only those that lock now")
        parser.add_argument("--limit", type=int, default=50)

    def clear_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, nargs="*", metavar="ID")
        parser.add_argument("--account", default="", help="all of this account")
        parser.add_argument("--address", default="", help="all from this address")
        parser.add_argument("--all", action="store_true", help="everything")

    def do_list(self, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be 1 or more.")
        found = lockouts.failing()
        if options["locked"]:
            found = found.filter(locked_until__gt=timezone.now())
        rows = list(found[: options["limit"]])
        if self.json:
            self.write_json(
                [
                    {
                        "id": row.pk,
                        "kind": row.kind,
                        "account": row.account,
                        "address": row.address,
                        "failures": row.failures,
                        "last_failed_at": _iso(row.last_failed_at),
                        "locked_until": _iso(row.locked_until),
                    }
                    for row in rows
                ]
            )
            return
        self.write_table(
            ["ID", "KIND", "FOR", "FAILURES", "LAST", "LOCKED UNTIL"],
            [
                [
                    str(row.pk),
                    row.kind,
                    str(row),
                    str(row.failures),
                    f"{row.last_failed_at:%Y-%m-%d %H:%M:%S}" if row.last_failed_at else "",
                    f"{row.locked_until:%Y-%m-%d %H:%M:%S}" if row.locked_until else "",
                ]
                for row in rows
            ],
        )

    def do_clear(self, **options: Any) -> None:
        wanted = {name: options[name] for name in ("account", "address")}
        if not (options["id"] or options["all"] or any(wanted.values())):
            raise CommandError("Name IDs, --account, --address or --all; `list` shows them.")
        cleared = lockouts.clear(ids=options["id"], everything=options["all"], **wanted)
        if self.json:
            self.write_json({"cleared": cleared})
        else:
            self.stdout.write(f"Cleared: {cleared}")


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment else None
