"""What happened, append-only; and what is still to be told to the outside."""

from __future__ import annotations

from django.db import models


class RunEvent(models.Model):
    """One thing that happened to a run or a step of it. Inserted with the change it tells of."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        "engine.Run",
        on_delete=models.CASCADE,
        related_name="events",
        db_index=False,
        db_constraint=False,
    )
    step_run = models.ForeignKey(
        "engine.StepRun",
        on_delete=models.CASCADE,
        related_name="events",
        null=True,
        blank=True,
        db_index=False,
        db_constraint=False,
    )
    kind = models.CharField(max_length=40)
    attempt = models.IntegerField(null=True, blank=True)
    actor = models.CharField(max_length=255, blank=True, default="")
    data = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["run", "id"], name="runevent_of_run")]

    def __str__(self) -> str:
        return self.kind


class OutboxEvent(models.Model):
    """An event for a stream, written with the change; deleted once it stands in the stream."""

    id = models.BigAutoField(primary_key=True)
    stream = models.CharField(max_length=40)
    event_type = models.CharField(max_length=60)
    run_id = models.UUIDField(null=True)
    data = models.JSONField(default=dict)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.event_type} for {self.stream}"
