"""`Idempotency-Key`: a request that is sent again does nothing again and is answered alike.

The answer is stored in the transaction that does the work, so there is no moment in which one is
durable without the other. What is refused or fails leaves nothing behind: its key is free.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models.functions import Now
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import APIException
from rest_framework.response import Response

from engine import sql
from engine.api import principal
from engine.api.problems import RequestInvalid
from engine.models import IdempotentAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.request import Request

HEADER, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
#: How long an answer is given again, at least.
KEPT = timedelta(hours=24)
#: Expired answers that go with each new one: more than come, so that they do not pile up.
SWEPT = 10
MAX_CHARACTERS = 255
_SOUND = re.compile(rf"[\x21-\x7e]{{1,{MAX_CHARACTERS}}}")
#: Whoever holds this until its transaction ends is the only one at work under the key. Two numbers:
#: the single ones are the manager's. Keys that share a number only wait for each other.
LOCK = "SELECT pg_try_advisory_xact_lock(%(room)s, hashtext(%(name)s)) AS mine"
ROOM = 0x1DE3
SWEEP = """
DELETE FROM engine_idempotentanswer WHERE id IN (
    SELECT id FROM engine_idempotentanswer WHERE expires_at < clock_timestamp()
    ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""

PARAMETER = OpenApiParameter(
    name=HEADER,
    location=OpenApiParameter.HEADER,
    type={"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS},
    description=(
        "Any text of yours, e.g. a UUID, the same for each try of one request. For "
        f"{KEPT.total_seconds() / 3600:.0f} hours the same request under the same key is done once "
        f"and answered alike, with `{REPLAYED}: true`."
    ),
)


class KeyInUse(APIException):
    """Refuse a request while the first one under its key is still being answered."""

    status_code = 409
    default_code = "idempotency_key_in_use"
    default_detail = f"The first request with this {HEADER} is still being answered; try again."
    wait = 1


class KeyReused(APIException):
    """Refuse another request under a key that was used."""

    status_code = 422
    default_code = "idempotency_key_reused"
    default_detail = f"This {HEADER} was used for a request that asked for something else."


def once(
    request: Request, *, asked: Any, act: Callable[[], Response], again: Callable[[Any], Any]
) -> Response:
    """Answer by `act`, or as the first request under the same key was answered.

    asked: everything the request asks for, as JSON. again: returns the stored answer as the caller
    may see it now, who may have lost rights since. Without the header, simply acts.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return act()
    if not _SOUND.fullmatch(key):
        reason = f"1 to {MAX_CHARACTERS} visible ASCII characters"
        raise RequestInvalid(f"Header {HEADER}: {reason}", [(HEADER, reason)])
    owner = {
        "subject": principal.of(request).subject,
        "call": f"{request.method} {request.path}",
        "key": key,
    }
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    with transaction.atomic():
        (lock,) = sql.rows(LOCK, {"room": ROOM, "name": json.dumps(owner)})
        if not lock.mine:
            raise KeyInUse
        known = IdempotentAnswer.objects.filter(**owner, expires_at__gt=Now()).first()
        if known is None:
            return _kept(act(), owner=owner, fingerprint=fingerprint)
    if known.fingerprint != fingerprint:
        raise KeyReused
    headers = {REPLAYED: "true"} | ({"Location": known.location} if known.location else {})
    return Response(again(known.body), status=known.status, headers=headers)


def _kept(response: Response, *, owner: dict[str, Any], fingerprint: str) -> Response:
    answer = {
        "fingerprint": fingerprint,
        "status": response.status_code,
        "location": response.headers.get("Location", ""),
        "body": response.data,
        "expires_at": Now() + KEPT,
    }
    IdempotentAnswer.objects.update_or_create(answer, **owner)
    # Last, past what others hold: who sweeps waits for nobody.
    sql.count(SWEEP, {"limit": SWEPT})
    return response
