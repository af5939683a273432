"""The rows an author who wants to know what ran would keep: a run, and its steps."""

from __future__ import annotations

from django.db import models


class Run(models.Model):
    """One run."""

    created_at = models.DateTimeField()

    class Meta:
        app_label = "rows"

    def __str__(self) -> str:
        return f"run {self.pk}"


class Step(models.Model):
    """One step of a run."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    position = models.IntegerField()
    state = models.CharField(max_length=10, default="waiting")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "rows"

    def __str__(self) -> str:
        return f"step {self.position} of {self.run_id}"
