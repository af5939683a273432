"""`manage.py revoke_token`: end a token before it expires, within a second in every process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from engine.access import bearers, revocations, tokens
from engine.management.interface import Interface, actor

if TYPE_CHECKING:
    import argparse

    from engine.access.revocations import Revoked


class Command(Interface):
    help = (
        "Revoke a token, by itself or by its id, or every token of a subject minted until now. "
        "Of a user's tokens, access or refresh, the whole sign-in ends."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("token", nargs="?", metavar="TOKEN", help="the token; - reads it")
        what.add_argument("--jti", help="its id, as `tokens list` shows it")
        what.add_argument("--subject", help="whose tokens")

    def handle(self, **options: Any) -> None:
        by = actor()
        if options["token"]:
            self._say(self._by_itself(options["token"], by=by))
        elif options["jti"]:
            jti = self._checked(options["jti"], tokens.ID_CHARACTERS, "--jti")
            done = revocations.revoke_token(jti, by=by)
            self._say(done, otherwise="No such token is registered; it is refused all the same.")
        elif options["subject"]:
            subject = self._checked(options["subject"], tokens.SUBJECT_CHARACTERS, "--subject")
            done = revocations.revoke_subject(subject, by=by)
            self._say(
                done, otherwise="None is registered; what was minted until now is refused anyway."
            )
        else:
            raise CommandError("Name a TOKEN, --jti or --subject.")

    def _by_itself(self, given: str, *, by: str) -> Revoked:
        token = sys.stdin.read().strip() if given == "-" else given
        try:
            claims = bearers.verified(token, kind=None)
        except (tokens.TokenExpiredError, tokens.TokenRevokedError) as exc:
            raise CommandError(f"Nothing to do: {exc.message}") from None
        return revocations.revoke(claims, by=by)

    def _checked(self, text: str, longest: int, name: str) -> str:
        if len(text) > longest or not text.isprintable():
            raise CommandError(f"{name} must be printable and at most {longest} characters.")
        return text

    def _say(self, done: Revoked, *, otherwise: str = "") -> None:
        parts = [
            f"{count} {what}{'s' if count > 1 else ''}"
            for count, what in ((done.tokens, "token"), (done.sign_ins, "sign-in"))
            if count
        ]
        ended = f"Revoked: {' and '.join(parts)}." if parts else otherwise or "Revoked."
        self.stdout.write(ended)
