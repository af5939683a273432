"""Keys that sign tokens, the tokens and sign-ins that are known, and what was revoked.

No token is ever stored, and no key in plain: a dump of these tables opens nothing.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

KINDS = ["token", "sign_in", "subject", "user"]


class AccessVersion(models.Model):
    """One row, one number: it rises with everything that a process must know to judge a token.

    Whoever raises it holds the row until its transaction ends, so that numbers become visible in
    their order and what has a number is complete.
    """

    id = models.SmallIntegerField(primary_key=True)
    version = models.BigIntegerField()

    def __str__(self) -> str:
        return f"version {self.version}"


class SigningKey(models.Model):
    """A key of the keyring. The row stays when the key is dropped: it never comes back."""

    id = models.BigAutoField(primary_key=True)
    #: What the header of a token names; says nothing about the key.
    kid = models.CharField(max_length=32, unique=True)
    #: The key, sealed with the master key; empty when it was dropped.
    sealed = models.TextField()
    #: Whether it came as JWT_SECRET: others may have minted tokens with it that nobody counted.
    is_given = models.BooleanField()
    signs = models.BooleanField()
    created_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True)
    dropped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["signs"], name="signingkey_one_signs", condition=Q(signs=True)
            ),
            models.CheckConstraint(
                name="signingkey_retired_unless_it_signs",
                condition=Q(signs=True, retired_at=None) | Q(signs=False, retired_at__isnull=False),
            ),
            models.CheckConstraint(
                name="signingkey_dropped_is_empty",
                condition=Q(dropped_at=None) | Q(dropped_at__isnull=False, sealed="", signs=False),
            ),
        ]

    def __str__(self) -> str:
        return self.kid


class MachineToken(models.Model):
    """What is known of a token that `mint_jwt` printed; not the token."""

    id = models.BigAutoField(primary_key=True)
    jti = models.CharField(max_length=32, unique=True)
    subject = models.CharField(max_length=150)
    scopes = ArrayField(models.CharField(max_length=200))
    #: The key that signed it: it is kept as long.
    kid = models.CharField(max_length=32)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)
    expires_at = models.DateTimeField()
    #: To the minute: written beside the requests, not by them.
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        verbose_name = "token"
        indexes = [models.Index(fields=["subject", "id"], name="machinetoken_of_subject")]

    def __str__(self) -> str:
        return f"{self.subject} {self.jti}"


class SignIn(models.Model):
    """A user who signed in once: the family of all refresh tokens that followed from it.

    One of them is good at a time, `current`. Whoever presents an older one has copied it, or was
    copied: the whole family ends.
    """

    id = models.UUIDField(primary_key=True)
    #: Without a foreign key: what became of a deleted user's tokens is still known.
    user_id = models.BigIntegerField()
    subject = models.CharField(max_length=150)
    #: The jti of the refresh token that is good, and of the one before it.
    current = models.CharField(max_length=32)
    previous = models.CharField(max_length=32, blank=True, default="")
    kid = models.CharField(max_length=32)
    created_at = models.DateTimeField()
    refreshed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        indexes = [
            models.Index(fields=["user_id"], name="signin_of_user"),
            models.Index(fields=["subject"], name="signin_of_subject"),
            models.Index(fields=["expires_at"], name="signin_expiry"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} since {self.created_at:%Y-%m-%d %H:%M:%S}"


class Revocation(models.Model):
    """What no process accepts any more.

    `token` by jti and `sign_in` by id: for good. `subject` by name and `user` by number: whatever
    was minted before `version`; what is minted later is good.
    """

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=7, choices=[(kind, kind) for kind in KINDS])
    value = models.CharField(max_length=150)
    version = models.BigIntegerField()
    revoked_at = models.DateTimeField()
    revoked_by = models.CharField(max_length=150)
    #: From then on nothing is left that it could refuse.
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "value"], name="revocation_once"),
            models.CheckConstraint(name="revocation_kind_known", condition=Q(kind__in=KINDS)),
        ]
        indexes = [
            # The look of every process, each second in which there was a change.
            models.Index(fields=["version"], name="revocation_since"),
            models.Index(fields=["expires_at"], name="revocation_expiry"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"
