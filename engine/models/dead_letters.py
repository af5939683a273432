"""Steps that failed for good, waiting for an operator."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class DeadLetter(models.Model):
    """The truth about one final failure; stream and queue only mirror it."""

    STATES = [("open", "open"), ("requeued", "requeued"), ("discarded", "discarded")]

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey("engine.Run", on_delete=models.CASCADE, related_name="dead_letters")
    step_run = models.ForeignKey(
        "engine.StepRun", on_delete=models.CASCADE, related_name="dead_letters"
    )
    department = models.CharField(max_length=63)
    automation = models.CharField(max_length=200)
    step = models.CharField(max_length=200)
    map_index = models.IntegerField()
    state = models.CharField(max_length=10, choices=STATES, default="open")
    error_code = models.CharField(max_length=100)
    error_message = models.TextField(blank=True, default="")
    attempts = models.IntegerField()
    crashes = models.IntegerField()
    created_at = models.DateTimeField()
    notified_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        indexes = [
            models.Index(fields=["state", "-id"], name="deadletter_by_state"),
            models.Index(fields=["department", "state", "id"], name="deadletter_by_department"),
            models.Index(fields=["automation", "state", "id"], name="deadletter_by_automation"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["step_run"], name="deadletter_open_once", condition=Q(state="open")
            )
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.step}: {self.error_code}"
