"""`manage.py changepassword`: Django's, with a record in the audit trail."""

from __future__ import annotations

import getpass
from typing import Any

from django.contrib.auth.management.commands import changepassword

from engine.audit import trail
from engine.management.interface import acting


class Command(changepassword.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        # After and not within: no transaction may stay open while somebody types.
        said = super().handle(*args, **options)
        with acting():
            name = options["username"] or getpass.getuser()
            trail.record("user.password", kind="user", id=name)
        return said
