"""Outgoing webhooks: who wants to be told what, and each telling of it."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

STATUSES = ["pending", "delivered", "failed"]


class WebhookEndpoint(models.Model):
    """An address of another system that is told of events. Written by `engine.webhooks` only."""

    id = models.BigAutoField(primary_key=True)
    url = models.CharField(max_length=2000)
    description = models.CharField(max_length=200, blank=True, default="")
    event_types = ArrayField(
        models.CharField(max_length=60), default=list, blank=True, help_text="Empty: every type"
    )
    department = models.CharField(
        max_length=63, blank=True, default="", help_text="Empty: every department"
    )
    #: `whsec_…`, sealed with the master key.
    secret = models.TextField()
    #: The one before, sealed; it signs as well until `old_secret_until`.
    old_secret = models.TextField(blank=True, default="")
    old_secret_until = models.DateTimeField(null=True, blank=True)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, blank=True, default="")
    disabled_at = models.DateTimeField(null=True, blank=True)
    failures = models.IntegerField(default=0, help_text="Failed attempts since the last success")
    failing_since = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        verbose_name = "webhook"

    def __str__(self) -> str:
        return f"webhook {self.pk}"


class IncomingHook(models.Model):
    """An address of ours, known by its token, whose callers start an automation."""

    id = models.BigAutoField(primary_key=True)
    #: SHA-256 of the token, in hexadecimal: the token itself is shown once and kept nowhere.
    token_hash = models.CharField(max_length=64, unique=True)
    description = models.CharField(max_length=200, blank=True, default="")
    automation = models.CharField(max_length=200)
    department = models.CharField(max_length=63)
    #: `whsec_…`, sealed with the master key; empty: callers need not sign.
    secret = models.TextField(blank=True, default="")
    #: The one before, sealed; accepted as well until `old_secret_until`.
    old_secret = models.TextField(blank=True, default="")
    old_secret_until = models.DateTimeField(null=True, blank=True)
    input_field = models.CharField(
        max_length=100,
        blank=True,
        default="",
        help_text="The input's field that takes the body; empty: the body is the input",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150, blank=True, default="")

    def __str__(self) -> str:
        return f"hook {self.pk}"


class WebhookDelivery(models.Model):
    """One event for one endpoint, with what became of the latest attempt to tell it."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False
    )
    #: What receivers drop doubles by: the header `webhook-id`, the same on every attempt.
    message_id = models.CharField(max_length=40)
    event_id = models.CharField(max_length=80)
    event_type = models.CharField(max_length=60)
    run_id = models.UUIDField(null=True, blank=True)
    department = models.CharField(max_length=63, blank=True, default="")
    #: The body: metadata and a link, never inputs or outputs.
    payload = models.JSONField()
    status = models.CharField(max_length=9, choices=[(status, status) for status in STATUSES])
    attempt = models.IntegerField(default=0, help_text="Attempts in all")
    tries = models.SmallIntegerField(default=0, help_text="Attempts since it was (re)sent")
    next_at = models.DateTimeField(help_text="Not before; while it is being sent: again after this")
    #: Of the manager that is sending it.
    claim = models.UUIDField(null=True, blank=True)
    response_code = models.SmallIntegerField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True, default="")
    excerpt = models.CharField(max_length=500, blank=True, default="")
    duration_ms = models.IntegerField(null=True, blank=True)
    attempted_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        indexes = [
            # Manager: what of an endpoint is due, oldest first.
            models.Index(
                fields=["endpoint", "next_at"], name="webhook_due", condition=Q(status="pending")
            ),
            # The log of an endpoint, newest first.
            models.Index(fields=["endpoint", "id"], name="webhook_log"),
            # Manager: what is old enough to be forgotten.
            models.Index(
                fields=["finished_at"], name="webhook_finished", condition=~Q(status="pending")
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "event_id"], name="webhook_event_once"),
            models.CheckConstraint(name="webhook_status_known", condition=Q(status__in=STATUSES)),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.event_type}: {self.status}"
