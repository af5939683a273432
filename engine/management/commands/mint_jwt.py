"""`manage.py mint_jwt`: a token for the API, on standard output and nothing beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from engine.access import machines, revocations, scopes, tokens
from engine.management.interface import Interface, actor

if TYPE_CHECKING:
    import argparse

DEFAULT_TTL_SECONDS = 3600
MAX_TTL_SECONDS = revocations.LONGEST_SECONDS


class Command(Interface):
    help = "Print a token with the scopes asked for; `tokens list` shows what was minted."
    #: A token needs the database, not the catalog.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--scopes", required=True, help='e.g. "runs.read,runs.write"; "runs.*" by prefix'
        )
        parser.add_argument("--subject", default="", help="whom actions are recorded under")
        parser.add_argument(
            "--ttl",
            type=int,
            default=DEFAULT_TTL_SECONDS,
            metavar="SECONDS",
            help="how long it is good for (default one hour)",
        )

    def handle(self, **options: Any) -> None:
        granted = scopes.parse(options["scopes"])
        if not 1 <= options["ttl"] <= MAX_TTL_SECONDS:
            raise CommandError(f"--ttl must be between 1 and {MAX_TTL_SECONDS} seconds.")
        by = actor()
        subject = options["subject"].strip() or by
        if len(subject) > tokens.SUBJECT_CHARACTERS or not subject.isprintable():
            raise CommandError(
                f"--subject must be printable and at most {tokens.SUBJECT_CHARACTERS} characters."
            )
        self.stdout.write(
            machines.mint(
                subject=subject,
                scopes=granted,
                ttl_seconds=options["ttl"],
                now=datetime.now(UTC),
                by=by,
            )
        )
