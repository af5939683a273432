"""Who did what: records that are only ever added, and the seals that chain them."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models

SOURCES = ["api", "admin", "command", "hook", "system"]
OUTCOMES = ["done", "refused"]


class AuditRecord(models.Model):
    """One act of an operator, a caller of the API or a command, inserted in its transaction.

    The database gives `id`, `at` and `transaction_id`: the application may not name them.
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    source = models.CharField(max_length=7, choices=[(source, source) for source in SOURCES])
    actor = models.CharField(max_length=150)
    #: `<thing>.<verb>`, e.g. `run.cancel`.
    action = models.CharField(max_length=60)
    outcome = models.CharField(max_length=7, choices=[(found, found) for found in OUTCOMES])
    object_kind = models.CharField(max_length=40)
    object_id = models.CharField(max_length=200)
    address = models.CharField(max_length=64)
    request_id = models.CharField(max_length=100)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    #: Number of the transaction (xid8): what tells the sealer that no lower one is still open.
    transaction_id = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["transaction_id", "id"], name="audit_by_transaction"),
            models.Index(fields=["object_kind", "object_id", "id"], name="audit_of_object"),
            models.Index(fields=["actor", "id"], name="audit_by_actor"),
            models.Index(fields=["action", "id"], name="audit_by_action"),
            models.Index(fields=["at"], name="audit_by_time"),
        ]
        constraints = [
            models.CheckConstraint(
                name="audit_words_known",
                condition=models.Q(source__in=SOURCES, outcome__in=OUTCOMES),
            )
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.action}"


class AuditSeal(models.Model):
    """A link of the chain: the digest of a batch of records and of the link before."""

    number = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    record_ids = ArrayField(models.BigIntegerField())
    #: The digest of each: which of them was changed can be named.
    record_digests = ArrayField(models.CharField(max_length=64), db_default=[])
    #: SHA-256 in hexadecimal; `engine.audit.canonical` says of what.
    digest = models.CharField(max_length=64)
    previous = models.CharField(max_length=64, unique=True)
    #: Every record of a transaction below this number is in this seal or an earlier one.
    horizon = models.BigIntegerField()

    class Meta:
        indexes = [
            # Whether a record is sealed already.
            GinIndex(fields=["record_ids"], name="audit_sealed", fastupdate=False)
        ]

    def __str__(self) -> str:
        return f"seal {self.number}"
