"""`manage.py roles`: who holds which role, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from engine.access import grants
from engine.access.roles import ROLES
from engine.management.interface import OperatorCommand, actor

if TYPE_CHECKING:
    import argparse

    from engine.access.roles import Grant


class Command(OperatorCommand):
    help = "List, grant and revoke the roles of users, in one department or in all."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list users with their roles",
        "grant": "give a user a role",
        "revoke": "take a role from a user; shows what it would do unless --apply",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--user", default="", help="only this one")

    def grant_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("user", metavar="USER")
        parser.add_argument("role", choices=ROLES, metavar="ROLE", help=", ".join(ROLES))
        parser.add_argument("--department", default="", help="its slug; without it, all of them")

    def revoke_arguments(self, parser: argparse.ArgumentParser) -> None:
        self.grant_arguments(parser)
        parser.add_argument("--apply", action="store_true", help="do it")

    def do_list(self, **options: Any) -> None:
        users = [_user(options["user"])] if options["user"] else User.objects.order_by("username")
        self._write(list(users))

    def do_grant(self, **options: Any) -> None:
        user = _user(options["user"])
        where = {"role": options["role"], "department": options["department"]}
        grants.grant(user=user, **where, by=actor())
        self._write([user])

    def do_revoke(self, **options: Any) -> None:
        user = _user(options["user"])
        where = {"role": options["role"], "department": options["department"]}
        if not grants.is_held(user=user, **where):
            raise CommandError(f"{user.get_username()} does not hold this: {_written(**where)}.")
        if not options["apply"]:
            self._write([user])
            if not self.json:
                self.stdout.write(f"Would revoke {_written(**where)}. Add --apply to do it.")
            return
        grants.revoke(user=user, **where, by=actor())
        self._write([user])

    def _write(self, users: list[User]) -> None:
        held = [(user, grants.held_by(user)) for user in users]
        if self.json:
            self.write_json([_document(user, roles) for user, roles in held])
            return
        self.write_table(
            ["USER", "ACTIVE", "ROLES"],
            [
                [
                    user.get_username(),
                    "yes" if user.is_active else "no",
                    ", ".join(_written(*grant) for grant in roles) or "none",
                ]
                for user, roles in held
            ],
        )


def _document(user: User, held: list[Grant]) -> dict[str, Any]:
    return {
        "user": user.get_username(),
        "active": user.is_active,
        "superuser": user.is_superuser,
        "roles": [{"role": grant.role, "department": grant.department or None} for grant in held],
    }


def _written(role: str, department: str) -> str:
    return f"{role} in {department}" if department else role


def _user(name: str) -> User:
    found = User.objects.filter(username=name).first()
    if found is None:
        raise CommandError(f"There is no user {name!r}; `roles list` shows them.")
    return found
