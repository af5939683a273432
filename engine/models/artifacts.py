"""Files of runs. The bytes lie in the store under their hash; a row names them."""

from __future__ import annotations

from django.db import models


class Artifact(models.Model):
    """A named file: made by a step of a run, or uploaded as input (no step)."""

    id = models.UUIDField(primary_key=True)
    run = models.ForeignKey(
        "engine.Run", on_delete=models.CASCADE, related_name="artifacts", null=True, blank=True
    )
    step_run = models.ForeignKey(
        "engine.StepRun", on_delete=models.CASCADE, related_name="artifacts", null=True, blank=True
    )
    name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64, db_index=True)
    size = models.BigIntegerField(help_text="Bytes")
    media_type = models.CharField(max_length=100)
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "file"

    def __str__(self) -> str:
        return self.name
