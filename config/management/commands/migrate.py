"""`manage.py migrate`: Django's, as the owner; then the application gets its rights."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.commands import migrate

from config import ownership


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with ownership.as_owner():
            super().handle(*args, **options)
            if settings.OWNER_DATABASE is not None:
                application = settings.DATABASES["default"]["USER"]
                if application != settings.OWNER_DATABASE["USER"]:
                    ownership.grant(application)
