"""Throttle the API: by the token's subject, without a valid token by the caller's address.

Views count through DRF's throttles. What was refused before they are asked (no token, no scope) is
counted when its answer is made: guessing tokens is no way around. A hook's calls are the hook's,
once they have proven to be its (`engine.api.hooks`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    NotAuthenticated,
    PermissionDenied,
)
from rest_framework.throttling import BaseThrottle

from engine.access import addresses, throttling
from engine.api.principal import Principal

if TYPE_CHECKING:
    from django.http import HttpRequest
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from engine.access.throttling import Verdict

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
#: The kind of a hook's calls.
HOOK = "hook"
#: Where a request keeps its verdict: it is counted once, and its answer tells of it.
VERDICT = "rate_verdict"


class RateExceeded(APIException):
    """Refuse a call that comes too soon."""

    status_code = 429
    default_code = "throttled"

    def __init__(self, verdict: Verdict) -> None:
        rate = verdict.rate
        #: Read by `problems.handle` for `Retry-After`: whole seconds, never too early.
        self.wait = max(1, math.ceil(verdict.retry_in))
        super().__init__(
            f"More than {rate.limit} calls ({rate.kind}) in {rate.seconds} seconds; "
            f"try again in {self.wait} s.",
            code=self.default_code,
        )


class PerCaller(BaseThrottle):
    """Count each call of a view once, whoever asks."""

    def allow_request(self, request: Request, view: APIView) -> bool:  # noqa: ARG002
        """Count the call; raise RateExceeded when it comes too soon."""
        count(request)
        return True


def count(request: Request) -> None:
    """Count a call that is not counted yet; raises RateExceeded."""
    plain = request._request  # noqa: SLF001 - Django's own request
    if hasattr(plain, VERDICT):
        return
    # Not asked for anew: a token that is not valid would be refused once more.
    user: object = getattr(request, "_user", None)
    if isinstance(user, Principal):
        kind = "read" if request.method in _READING else "write"
        caller = f"subject:{user.subject}"
    else:
        kind, caller = "anonymous", f"address:{addresses.holder(plain.META.get('REMOTE_ADDR'))}"
    _count(plain, kind, caller)


def count_for_hook(request: Request, hook_id: int) -> None:
    """Count a call that is a hook's, whatever address it comes from; raises RateExceeded.

    Where the installation sets rates and none for hooks, it counts for its address.
    """
    if HOOK in settings.THROTTLE_RATES:
        _count(request._request, HOOK, f"hook:{hook_id}")  # noqa: SLF001 - Django's own request
    else:
        count(request)


def _count(plain: HttpRequest, kind: str, caller: str) -> None:
    rate = settings.THROTTLE_RATES.get(kind)
    verdict = throttling.take(caller, rate) if rate else None
    setattr(plain, VERDICT, verdict)
    if verdict is not None and not verdict.passes:
        raise RateExceeded(verdict)


def counted(exc: Exception, request: Request) -> Exception:
    """Return the error to answer with: the throttle's, when a refused call came too soon too."""
    if isinstance(exc, (AuthenticationFailed, NotAuthenticated, PermissionDenied)):
        try:
            count(request)
        except RateExceeded as refusal:
            return refusal
    return exc


def fields(request: HttpRequest) -> dict[str, str]:
    """Return the header fields that tell the caller where it stands; none when nobody counted."""
    verdict: Verdict | None = getattr(request, VERDICT, None)
    if verdict is None:
        return {}
    return {"RateLimit": verdict.state, "RateLimit-Policy": verdict.rate.policy}
