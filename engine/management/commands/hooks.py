"""`manage.py hooks`: addresses of ours whose callers start an automation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings

from engine.management.commands.webhooks import limit
from engine.management.interface import OperatorCommand, actor, row_id
from engine.webhooks import incoming, selectors
from engine.webhooks.representations import HookEntry, HookWithSecret, HookWithToken

if TYPE_CHECKING:
    import argparse

    from engine.models import IncomingHook


class Command(OperatorCommand):
    help = "Add, list, enable, disable, rotate and remove incoming webhooks."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list incoming webhooks, newest first",
        "add": "let calls of a new address start an automation; prints address and secret once",
        "enable": "let calls start runs again",
        "disable": "answer calls as if nothing were there",
        "rotate": "give a hook another secret, printed once; the old one is accepted for 24 hours",
        "remove": "delete hooks; the runs they started stay; needs --apply",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--department")
        parser.add_argument("--automation")
        parser.add_argument("--limit", type=int, default=50)

    def adding_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("automation", metavar="AUTOMATION")
        parser.add_argument("--description", default="")
        parser.add_argument("--unsigned", action="store_true", help="callers need not sign")
        parser.add_argument(
            "--input-field", default="", help="the input's field that takes the body"
        )

    def id_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, metavar="ID")

    rotate_arguments = id_arguments

    def ids_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, nargs="+", metavar="ID")

    enable_arguments = disable_arguments = ids_arguments

    def remove_arguments(self, parser: argparse.ArgumentParser) -> None:
        self.ids_arguments(parser)
        parser.add_argument("--apply", action="store_true", help="do it; else only say so")

    def do_list(self, **options: Any) -> None:
        self._write(
            selectors.hooks(
                limit=limit(options),
                department=options["department"],
                automation=options["automation"],
            )
        )

    def do_add(self, **options: Any) -> None:
        row, token, secret = incoming.create(
            automation=options["automation"],
            description=options["description"],
            signed=not options["unsigned"],
            input_field=options["input_field"],
            actor=actor(),
        )
        made = HookWithToken.made(row, token=token, secret=secret, base=settings.PUBLIC_URL)
        if self.json:
            self.write_json(made.model_dump(mode="json"))
            return
        self._write([row])
        self.stdout.write(f"Address, shown this once: {made.url}")
        if secret:
            self.stdout.write(f"Secret, shown this once:  {secret}")

    def do_rotate(self, **options: Any) -> None:
        row, secret = incoming.rotate_secret(hook_id=options["id"], actor=actor())
        if self.json:
            self.write_json(HookWithSecret.of(row, secret=secret).model_dump(mode="json"))
            return
        self.stdout.write(f"Secret, shown this once: {secret}")

    def do_enable(self, **options: Any) -> None:
        by = actor()
        self._write([incoming.change(hook_id=pk, actor=by, enabled=True) for pk in options["id"]])

    def do_disable(self, **options: Any) -> None:
        by = actor()
        self._write([incoming.change(hook_id=pk, actor=by, enabled=False) for pk in options["id"]])

    def do_remove(self, **options: Any) -> None:
        rows = [selectors.hook(hook_id=pk) for pk in options["id"]]
        by = actor()
        if not options["apply"]:
            self._write(rows)
            if not self.json:
                self.stdout.write("Nothing is changed; add --apply.")
            return
        for row in rows:
            incoming.remove(hook_id=row.pk, actor=by)
        if self.json:
            self.write_json([HookEntry.of(row).model_dump(mode="json") for row in rows])
        else:
            self.stdout.write(f"Removed {len(rows)}.")

    def _write(self, rows: list[IncomingHook]) -> None:
        if self.json:
            self.write_json([HookEntry.of(row).model_dump(mode="json") for row in rows])
            return
        self.write_table(
            ["ID", "STATE", "AUTOMATION", "DEPARTMENT", "SIGNED", "BODY", "DESCRIPTION"],
            [
                [
                    str(row.pk),
                    "enabled" if row.enabled else "disabled",
                    row.automation,
                    row.department,
                    "yes" if row.secret else "no",
                    row.input_field or "the input",
                    row.description,
                ]
                for row in rows
            ],
        )
