"""`manage.py migrate`: Django's, as the owner; then the application gets its rights."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.commands import migrate

from config import ownership


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        # Before: as the owner, these settings say the owner's name.
        application = settings.DATABASES["default"]["USER"]
        with ownership.as_owner():
            super().handle(*args, **options)
            owner = settings.OWNER_DATABASE
            if owner is not None and application != owner["USER"]:
                ownership.grant(application)
