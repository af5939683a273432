"""What a run executes: immutable, checksummed versions of automations."""

from __future__ import annotations

from django.db import models


class AutomationVersion(models.Model):
    """One graph of one automation, as it was declared; never changed after its insertion."""

    automation = models.CharField(max_length=200, help_text="<department>.<automation>")
    version = models.PositiveIntegerField()
    department = models.CharField(max_length=63)
    title = models.CharField(max_length=200)
    checksum = models.CharField(max_length=64, help_text="SHA-256 over graph and input schema")
    graph = models.JSONField()
    input_schema = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["automation", "version"], name="automationversion_number_once"
            ),
            models.UniqueConstraint(
                fields=["automation", "checksum"], name="automationversion_content_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.automation} v{self.version}"
