"""`manage.py sync_catalog`: the catalog in the code becomes rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from departments import sync
from engine.errors import EngineError
from engine.management.interface import acting

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Write departments, automations and their versions, as the code declares them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        try:
            with acting():
                report = sync.sync_catalog()
        except EngineError as exc:
            raise CommandError(exc.message) from exc
        if options["json"]:
            self.stdout.write(json.dumps(asdict(report)))
            return
        fresh = ", ".join(report.new_version_names) or "none"
        self.stdout.write(
            f"{report.departments} departments, {report.automations} automations; "
            f"new versions: {fresh}"
        )
