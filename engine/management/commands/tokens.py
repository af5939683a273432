"""`manage.py tokens`: which tokens machines have. The tokens themselves are kept nowhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError

from engine.access import machines
from engine.management.interface import OperatorCommand

if TYPE_CHECKING:
    import argparse


class Command(OperatorCommand):
    help = "List the tokens that `mint_jwt` printed; `revoke_token --jti` ends one."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list tokens that are good, newest first; --all for the ended ones too",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--subject", help="only those of this subject")
        parser.add_argument("--all", action="store_true", help="also the expired and revoked")
        parser.add_argument("--limit", type=int, default=50)

    def do_list(self, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be 1 or more.")
        rows = machines.listed(
            limit=options["limit"], subject=options["subject"], include_ended=options["all"]
        )
        now = datetime.now(UTC)
        if self.json:
            self.write_json(
                [
                    {
                        "jti": row.jti,
                        "subject": row.subject,
                        "standing": machines.standing(row, now=now),
                        "scopes": row.scopes,
                        "created_at": row.created_at.isoformat(),
                        "created_by": row.created_by,
                        "expires_at": row.expires_at.isoformat(),
                        "last_used_at": row.last_used_at and row.last_used_at.isoformat(),
                        "revoked_at": row.revoked_at and row.revoked_at.isoformat(),
                        "revoked_by": row.revoked_by,
                    }
                    for row in rows
                ]
            )
            return
        self.write_table(
            ["JTI", "SUBJECT", "STANDING", "SCOPES", "CREATED", "EXPIRES", "LAST USED"],
            [
                [
                    row.jti,
                    row.subject,
                    machines.standing(row, now=now),
                    " ".join(row.scopes),
                    _shown(row.created_at),
                    _shown(row.expires_at),
                    _shown(row.last_used_at) or "never",
                ]
                for row in rows
            ],
        )


def _shown(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""
