"""Incoming webhooks: addresses of ours, known by a token, whose callers start an automation."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from engine import input_files, registry, runs
from engine.access import policy, scopes, sealing
from engine.audit import trail
from engine.errors import (
    EngineError,
    InputInvalidError,
    NotFoundError,
    StateConflictError,
    UnknownAutomationError,
)
from engine.models import IncomingHook
from engine.values import is_storable
from engine.webhooks import signing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.runs import Submitted

log = structlog.get_logger(__name__)

# Says what it is, to people and to scanners for leaked secrets.
TOKEN_PREFIX = "hook_"  # noqa: S105 - no token # nosec B105
#: 256 bits: nobody finds one by trying.
TOKEN_BYTES = 32
MAX_TOKEN_CHARACTERS = 100
MAX_DESCRIPTION_CHARACTERS = 200
#: How long the secret before the present one is accepted, in hours.
OLD_SECRET_HOURS = 24
CHANGEABLE = ("description", "input_field", "enabled")
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
#: Ids become part of a run's business key.
_SOUND_ID = re.compile(r"[\x21-\x7e]{1,200}")
TRIGGER = "webhook"


class SignatureInvalidError(EngineError):
    """Refuse a call that is not signed as its hook asks."""

    code = "signature_invalid"


def create(
    *, automation: str, actor: str, signed: bool = True, secret: str = "", **values: Any
) -> tuple[IncomingHook, str, str]:
    """Add a hook; return it, its token and its signing secret, which are shown this once.

    signed: whether callers must sign; with `secret` if one is given (the other side may have made
    it), else with a new one. values: description, input_field, enabled. Raises InputInvalidError
    naming each field.
    """
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    chosen = (secret or signing.new_secret()) if signed else ""
    declared = registry.automations.get(automation)
    hook = IncomingHook(
        token_hash=_hashed(token),
        automation=automation,
        department=declared.department if declared else "",
        secret=sealing.seal(chosen, key=settings.MASTER_KEY) if chosen else "",
        created_by=actor,
        created_at=Now(),
        **values,
    )
    problems = _secret_problems(secret)
    if secret and not signed:
        problems = [{"field": "secret", "reason": "given for a hook whose callers need not sign"}]
    _check(hook, more=problems)
    with transaction.atomic():
        hook.save()
        hook.refresh_from_db()
        _record("create", hook.pk, actor, after=_told(hook))
    log.info("hook_created", hook=hook.pk, automation=automation, signed=signed, actor=actor)
    return hook, token, chosen


def change(*, hook_id: int, actor: str, **values: Any) -> IncomingHook:
    """Change fields (`CHANGEABLE`). Raises NotFoundError or InputInvalidError."""
    fixed = sorted(set(values) - set(CHANGEABLE))
    if fixed:
        problems = [{"field": name, "reason": "cannot be changed"} for name in fixed]
        raise InputInvalidError(f"{', '.join(fixed)}: cannot be changed", problems=problems)

    def act(hook: IncomingHook) -> None:
        for name, value in values.items():
            setattr(hook, name, value)
        if set(values) - {"enabled"} or hook.enabled:
            _check(hook)

    return _locked(hook_id, act, verb="change", actor=actor)


def rotate_secret(*, hook_id: int, actor: str, secret: str = "") -> tuple[IncomingHook, str]:
    """Give a hook another signing secret and return it; the old one is accepted for 24 hours.

    Raises NotFoundError; StateConflictError for a hook whose callers need not sign.
    """
    if problems := _secret_problems(secret):
        raise InputInvalidError(f"secret: {problems[0]['reason']}", problems=problems)
    chosen = secret or signing.new_secret()

    def act(hook: IncomingHook) -> None:
        if not hook.secret:
            raise StateConflictError("The hook", wanted="rotate its secret", actual="unsigned")
        hook.old_secret = hook.secret
        hook.secret = sealing.seal(chosen, key=settings.MASTER_KEY)
        hook.old_secret_until = Now() + timedelta(hours=OLD_SECRET_HOURS)

    return _locked(hook_id, act, verb="rotate_secret", actor=actor), chosen


def remove(*, hook_id: int, actor: str) -> None:
    """Delete a hook; the runs it started stay. Raises NotFoundError."""
    with transaction.atomic():
        if not IncomingHook.objects.filter(pk=hook_id).delete()[0]:
            raise NotFoundError(f"There is no hook {hook_id}")
        _record("remove", hook_id, actor)
    log.info("hook_removed", hook=hook_id, actor=actor)


def of_token(token: str) -> IncomingHook | None:
    """Return the enabled hook of a token."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        return None
    return IncomingHook.objects.filter(token_hash=_hashed(token), enabled=True).first()


def verify(hook: IncomingHook, *, body: bytes, headers: Mapping[str, str]) -> str:
    """Return the call's id ("" if it has none), when it is signed as the hook asks.

    body: as it came, to the byte. Raises SignatureInvalidError, InputInvalidError.
    """
    given = {name: headers.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE)}
    if hook.secret:
        sealed = [hook.secret]
        if IncomingHook.objects.filter(Q(pk=hook.pk, old_secret_until__gt=Now())).exists():
            sealed.append(hook.old_secret)
        keys = [sealing.unseal(one, key=settings.MASTER_KEY) for one in sealed]
        if not signing.is_signed(body=body, headers=given, secrets=keys):
            raise SignatureInvalidError(
                f"The call must carry {ID}, {TIMESTAMP} (within five minutes of now) and a "
                f"{SIGNATURE} of its body by the hook's secret (Standard Webhooks)."
            )
    if given[ID] and not _SOUND_ID.fullmatch(given[ID]):
        reason = "1 to 200 visible ASCII characters"
        raise InputInvalidError(f"{ID}: {reason}", problems=[{"field": ID, "reason": reason}])
    return given[ID]


def start(
    hook: IncomingHook,
    *,
    document: Any,
    message_id: str,
    correlation_id: str = "",
    traceparent: str = "",
) -> Submitted:
    """Start the hook's automation with what was sent, durable when this returns.

    The same `message_id` at the same hook returns the run that exists. Raises InputInvalidError
    with the fields as they stand in the document, StateConflictError when the automation is gone.
    """
    declared = registry.automations.get(hook.automation)
    if declared is None or declared.department != hook.department:
        raise StateConflictError("The hook's automation", wanted="start it", actual="not there")
    given = {hook.input_field: document} if hook.input_field else document
    # Whoever calls is nobody known: of files the department's own, for which the hook was made.
    reader = policy.of_scopes((scopes.limited(input_files.READ, hook.department),))
    try:
        input_files.require_readable(given, reader=reader)
        submitted = runs.submit(
            automation=hook.automation,
            input=given,
            trigger=TRIGGER,
            created_by=f"hook:{hook.pk}",
            dedupe_key=f"hook:{hook.pk}:{message_id}" if message_id else None,
            correlation_id=(message_id or correlation_id)[: runs.MAX_CORRELATION_CHARACTERS],
            traceparent=traceparent,
        )
    except InputInvalidError as exc:
        if not hook.input_field:
            raise
        inside = [
            {**found, "field": found["field"].removeprefix(hook.input_field).removeprefix(".")}
            for found in exc.problems
        ]
        raise InputInvalidError(exc.message, problems=inside) from exc
    except UnknownAutomationError as exc:
        raise StateConflictError(
            "The hook's automation", wanted="start it", actual="not there"
        ) from exc
    log.info("hook_called", hook=hook.pk, run_id=str(submitted.run_id), created=submitted.created)
    return submitted


def _check(hook: IncomingHook, *, more: list[dict[str, str]] | None = None) -> None:
    problems = list(more or [])
    declared = registry.automations.get(hook.automation)
    if declared is None:
        known = ", ".join(sorted(registry.automations)) or "none"
        problems.append({"field": "automation", "reason": f"unknown; there are: {known}"})
    elif hook.input_field and hook.input_field not in runs.input_fields(declared):
        known = ", ".join(sorted(runs.input_fields(declared))) or "none"
        reason = f"{hook.automation} has no such field; it takes: {known}"
        problems.append({"field": "input_field", "reason": reason})
    if len(hook.description) > MAX_DESCRIPTION_CHARACTERS or not is_storable(hook.description):
        reason = f"at most {MAX_DESCRIPTION_CHARACTERS} characters of valid text"
        problems.append({"field": "description", "reason": reason})
    if problems:
        text = "; ".join(f"{found['field']}: {found['reason']}" for found in problems)
        raise InputInvalidError(text, problems=problems)


def _secret_problems(secret: str) -> list[dict[str, str]]:
    if not secret:
        return []
    try:
        signing.check_secret(secret)
    except ValueError as exc:
        return [{"field": "secret", "reason": str(exc)}]
    return []


def _hashed(token: str) -> str:
    # A plain digest will do: the token is random, there is nothing to be found out by trying.
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _locked(
    hook_id: int, act: Callable[[IncomingHook], None], *, verb: str, actor: str
) -> IncomingHook:
    with transaction.atomic():
        hook = IncomingHook.objects.select_for_update(no_key=True).filter(pk=hook_id).first()
        if hook is None:
            raise NotFoundError(f"There is no hook {hook_id}")
        before = _told(hook)
        act(hook)
        hook.save()
        hook.refresh_from_db()
        was, now = trail.changed(before, _told(hook))
        _record(verb, hook_id, actor, before=was, after=now)
    log.info("hook_steered", verb=verb, hook=hook_id, actor=actor)
    return hook


def _told(hook: IncomingHook) -> dict[str, Any]:
    """Return what the audit trail is told of a hook."""
    return {
        "automation": hook.automation,
        "department": hook.department,
        "description": hook.description,
        "signed": bool(hook.secret),
        "input_field": hook.input_field,
        "enabled": hook.enabled,
    }


def _record(
    verb: str,
    hook_id: int,
    actor: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    trail.record(f"hook.{verb}", kind="hook", id=hook_id, actor=actor, before=before, after=after)
