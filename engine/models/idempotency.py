"""Answers that were given to requests with an `Idempotency-Key`."""

from __future__ import annotations

from django.db import models


class IdempotentAnswer(models.Model):
    """What a caller was answered under a key, written in the transaction of what was done."""

    id = models.BigAutoField(primary_key=True)
    subject = models.CharField(max_length=150)
    #: Method and path, e.g. `POST /runs`.
    call = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    #: SHA-256 of what was asked for, in hexadecimal.
    fingerprint = models.CharField(max_length=64)
    status = models.SmallIntegerField()
    location = models.CharField(max_length=200, blank=True, default="")
    body = models.JSONField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subject", "call", "key"], name="idempotent_once")
        ]
        indexes = [models.Index(fields=["expires_at"], name="idempotent_expiry")]

    def __str__(self) -> str:
        return f"{self.call} of {self.subject}"
