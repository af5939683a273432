"""`manage.py createsuperuser`: Django's, with a record in the audit trail."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.management.commands import createsuperuser

from engine.audit import trail
from engine.management.interface import acting


class Command(createsuperuser.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        # After and not within: no transaction may stay open while somebody types.
        superusers = get_user_model().objects.filter(is_superuser=True)
        newest = superusers.order_by("-pk").first()
        super().handle(*args, **options)
        with acting():
            for made in superusers.filter(pk__gt=newest.pk if newest else 0):
                name = made.get_username()
                after = {"username": name, "is_superuser": True}
                trail.record("user.create", kind="user", id=name, after=after)
