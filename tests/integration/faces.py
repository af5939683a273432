"""What the tests of the faces share: tokens, a client that speaks JSON."""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.test import Client

from engine.access import keyring, tokens
from engine.models import StepRun
from tests.eventually import eventually

ALL = ("runs.*", "departments.*", "dead_letters.*", "artifacts.*")


def token(*scopes, ttl_seconds=60, key=None, kind="access", subject="tester"):
    """Return a token as somebody else mints it who holds JWT_SECRET, or another key."""
    kid = keyring._kid_of(settings.JWT_SECRET)
    return tokens.mint(
        keys=tokens.Keyring(signing=kid, secrets={kid: key or settings.JWT_SECRET}),
        subject=subject,
        scopes=scopes,
        ttl_seconds=ttl_seconds,
        now=datetime.now(UTC),
        kind=kind,
    )


class ApiClient(Client):
    """Django's client with a bearer token and JSON bodies."""

    def __init__(self, *scopes):
        super().__init__(raise_request_exception=False)
        self.bearer = token(*(scopes or ALL))

    def generic(self, method, path, *args, **extra):
        if self.bearer:
            extra.setdefault("HTTP_AUTHORIZATION", f"Bearer {self.bearer}")
        return super().generic(method, path, *args, **extra)

    def send(self, path, body=None):
        return self.post(path, data={} if body is None else body, content_type="application/json")


def work(line):
    """Be worker and manager until nothing moves any more."""
    moving = ["ready", "queued", "running", "retry_wait"]

    def quiet():
        line.deliver()
        line.manage()
        return not line.messages and not StepRun.objects.filter(state__in=moving).exists()

    eventually(quiet, within=10, what="the line to be quiet")
