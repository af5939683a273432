"""What steps do outside the database, as far as it is known."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

STATES = ["planned", "sent", "confirmed", "unknown"]


class Effect(models.Model):
    """One call to the outside: written before it is made and again when it was answered.

    `planned`: certainly not made. `sent`: begun, no answer recorded yet. `confirmed`: made, with
    its receipt. `unknown`: begun by an attempt that is gone; only a person can find out.
    """

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        "engine.Run", on_delete=models.CASCADE, related_name="effects", db_index=False
    )
    step_run = models.ForeignKey(
        "engine.StepRun", on_delete=models.CASCADE, related_name="effects", db_index=False
    )
    name = models.CharField(max_length=100)
    #: `run:step:index:name`, the same on every attempt: what the other system is given.
    key = models.CharField(max_length=450)
    state = models.CharField(max_length=9, choices=[(state, state) for state in STATES])
    idempotent = models.BooleanField(
        default=False, help_text="The other system drops a second call with the same key"
    )
    attempt = models.IntegerField(help_text="The attempt of the step that last touched it")
    #: What the other system answered, as JSON; no secrets in it.
    receipt = models.JSONField(null=True, blank=True)
    error_code = models.CharField(max_length=100, blank=True, default="")
    planned_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        indexes = [
            # `effects list`: what is not done yet is little among all that is.
            models.Index(
                fields=["state", "id"], name="effect_open", condition=~Q(state="confirmed")
            ),
            models.Index(fields=["run", "id"], name="effect_of_run"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["step_run", "name"], name="effect_once_per_step"),
            models.CheckConstraint(name="effect_state_known", condition=Q(state__in=STATES)),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.name}: {self.state}"
