"""`manage.py rotate_jwt_secret`: another key signs tokens from now on; nobody is logged out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.access import keyring
from engine.management.interface import Interface, actor

if TYPE_CHECKING:
    import argparse


class Command(Interface):
    help = (
        "Let a new key sign tokens, within a second in every process, without a restart. "
        "Tokens signed with an older key stay good until they expire."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--drop-old",
            action="store_true",
            help="a key has leaked: what the older keys signed is void at once, also of people",
        )

    def handle(self, **options: Any) -> None:
        kid = keyring.rotate(by=actor(), drop_old=options["drop_old"])
        older = "are void" if options["drop_old"] else "stay good until they expire"
        self.stdout.write(f"Tokens are signed with key {kid} now; older tokens {older}.")
