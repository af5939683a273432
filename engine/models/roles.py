"""Who holds which role, and where."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from engine.access.roles import ROLES


class RoleGrant(models.Model):
    """A role of a user, in one department or in all; written by `engine.access.grants`."""

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="role_grants"
    )
    role = models.CharField(max_length=20, choices=[(role, role) for role in ROLES])
    department = models.CharField(
        max_length=63, blank=True, default="", help_text="Slug; empty: every department"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "role", "department"], name="rolegrant_once"),
        ]

    def __str__(self) -> str:
        return f"{self.role} in {self.department or 'every department'}"
