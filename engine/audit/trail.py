"""Write down who did what, on what, from where: one plain INSERT in the transaction of the act.

Call `record` where the act is done, within its transaction: both are committed, or none is. What
is written about the thing itself is on the list below, or it is left out: never payloads, secrets
or errors' texts.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from engine import sql
from engine.audit import canonical, origin
from engine.values import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = Literal["done", "refused"]

#: What may be written of a thing's state before and after; every other name is left out.
ALLOWED = frozenset(
    {
        # runs
        *("state", "automation", "department", "created", "trigger", "priority", "tags"),
        *("deadline_at", "dedupe_key", "window", "until_terminal", "correlation_id", "steps"),
        *("run_id", "step", "error_code"),
        # departments
        *("paused", "max_concurrency", "departments", "automations", "new_versions"),
        # schedules; of an input its digest
        *("name", "cron", "time_zone", "catch_up", "catch_up_limit", "enabled", "input_sha256"),
        # people and what they may do
        *("username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser"),
        *("groups", "user_permissions", "permissions", "fields", "scopes", "ttl_seconds", "reason"),
        *("role", "cleared", "drop_old"),
        # webhooks: of an address the host and a digest, the rest may hold a secret
        *("host", "url_sha256", "event_types", "webhook_id"),
        # incoming hooks
        *("description", "signed", "input_field"),
        # streams and commands
        *("consumer", "entries", "to", "apply"),
    }
)
MAX_TEXT, MAX_ITEMS = 300, 50
MAX_ACTOR, MAX_ID, MAX_ADDRESS, MAX_REQUEST = 150, 200, 64, 100

INSERT = sql.compact("""
INSERT INTO engine_auditrecord (source, actor, action, outcome, object_kind, object_id, address,
    request_id, before, after)
VALUES (%(source)s, %(actor)s, %(action)s, %(outcome)s, %(kind)s, %(id)s, %(address)s,
    %(request_id)s, %(before)s, %(after)s)
""")


def record(
    action: str,
    *,
    kind: str,
    id: object,  # noqa: A002 - the field's word
    actor: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    outcome: Outcome = "done",
) -> None:
    """Write a record of the act that this transaction does.

    action: `<thing>.<verb>`, e.g. `run.cancel`. kind, id: what it was done to. actor: who, when it
    is another than the origin says. before, after: the state of the thing, by the names in ALLOWED.
    """
    here = origin.current()
    sql.count(
        INSERT,
        {
            "source": here.source,
            "actor": _text(actor or here.actor, MAX_ACTOR),
            "action": action,
            "outcome": outcome,
            "kind": kind,
            "id": _text(str(id), MAX_ID),
            "address": _text(here.address, MAX_ADDRESS),
            "request_id": _text(here.request_id, MAX_REQUEST),
            "before": None if before is None else sql.jsonb(_allowed(before)),
            "after": None if after is None else sql.jsonb(_allowed(after)),
        },
    )


def digest(payload: Any) -> str:
    """Return what is written of a payload instead of the payload: that it is another one."""
    return canonical.digest({"payload": payload})[:16]


def changed(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both without what is the same in both."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


def _allowed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items() if name in ALLOWED}


def _plain(value: Any) -> Any:
    """Return a value that has one form as JSON: texts, whole numbers, booleans, lists of them."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        return [_plain(item) for item in items[:MAX_ITEMS]]
    if isinstance(value, datetime):
        return canonical.moment(value) if value.tzinfo else value.isoformat()
    if isinstance(value, date | UUID | str | float):
        return _text(str(value), MAX_TEXT)
    return f"({type(value).__name__})"


def _text(text: str, length: int) -> str:
    return storable(text)[:length]
