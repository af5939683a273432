"""Failed sign-ins, counted: here and not in Redis, so that a restart forgives nothing."""

from __future__ import annotations

from django.db import models


class Lockout(models.Model):
    """How often signing in failed for an account, from an address, or for one from the other."""

    KINDS = [
        ("account", "account, from places it never signed in from"),
        ("address", "address, for accounts that never signed in from there"),
        ("pair", "account, from a place it has signed in from"),
    ]

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=10, choices=KINDS)
    #: HMAC-SHA256 of whom it is about: people type passwords where their name belongs.
    key = models.CharField(max_length=64, unique=True)
    #: The account's name if there is such an account, else empty.
    account = models.CharField(max_length=150, blank=True, default="")
    #: The address, or the /64 of an IPv6 address.
    address = models.CharField(max_length=50, blank=True, default="")
    failures = models.IntegerField(default=0)
    last_failed_at = models.DateTimeField(null=True)
    locked_until = models.DateTimeField(null=True)
    #: Of a pair: when this account last signed in from there.
    succeeded_at = models.DateTimeField(null=True)
    #: From then on nothing depends on the row.
    kept_until = models.DateTimeField()

    class Meta:
        # Serves the sweep of rows nothing depends on.
        indexes = [models.Index(fields=["kept_until"], name="lockout_kept_until")]

    def __str__(self) -> str:
        return (
            " from ".join(part for part in (self.account, self.address) if part) or "unknown name"
        )
