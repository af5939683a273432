"""`manage.py database_roles`: the application's rights, and whether it has too many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError

from config import ownership
from engine.audit import sealing
from engine.management.interface import Interface

if TYPE_CHECKING:
    import argparse


class Command(Interface):
    help = (
        "As the owner of the tables (DATABASE_OWNER_URL), give the application's role (the user of"
        " DATABASE_URL) the right to read and write rows, and to the audit trail only to add."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--check",
            action="store_true",
            help="change nothing; exit 1 when the application could change the audit trail",
        )

    def handle(self, **options: Any) -> None:
        application = settings.DATABASES["default"]["USER"]
        if options["check"]:
            if sealing.is_owned():
                self.stdout.write(
                    "The application could change the audit trail: it owns the tables, or has more"
                    " rights than it needs. Give it a role of its own and run this without --check:"
                    " config/README.md, `Database roles`."
                )
                sys.exit(1)
            self.stdout.write("The application can only add to the audit trail.")
            return
        if settings.OWNER_DATABASE is None:
            raise CommandError("Set DATABASE_OWNER_URL: only the owner can give rights.")
        if application == settings.OWNER_DATABASE["USER"]:
            raise CommandError("DATABASE_URL and DATABASE_OWNER_URL name the same role.")
        with ownership.as_owner():
            ownership.grant(application)
        self.stdout.write(f"{application} may read and write rows, and add to the audit trail.")
