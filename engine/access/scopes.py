"""What a token may carry and what that allows: pure policy, shared by the API and the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Every scope there is, with what it lets its holder do (CONTRACT §2).
SCOPES: dict[str, str] = {
    "runs.read": "see runs, their steps, events and progress",
    "runs.write": "start, cancel, pause and resume runs",
    "departments.read": "see departments and automations",
    "departments.write": "pause and resume departments",
    "artifacts.read": "download files of runs",
    "dead_letters.read": "see dead letters",
    "dead_letters.write": "requeue and discard dead letters",
    "approvals.decide": "decide approvals",
    "schedules.read": "see schedules",
    "schedules.write": "change schedules",
    "connections.read": "see connections, never their secrets",
    "connections.write": "change connections",
    "webhooks.read": "see webhooks",
    "webhooks.write": "change webhooks",
}

#: The Django permission that gives a user of the admin the same right as the scope.
PERMISSIONS: dict[str, str] = {
    "runs.read": "engine.view_run",
    "runs.write": "engine.change_run",
    "departments.read": "departments.view_department",
    "departments.write": "departments.change_department",
    "artifacts.read": "engine.view_artifact",
    "dead_letters.read": "engine.view_deadletter",
    "dead_letters.write": "engine.change_deadletter",
    "schedules.read": "departments.view_schedule",
    "schedules.write": "departments.change_schedule",
}

_SECTIONS = sorted({*(scope.partition(".")[0] for scope in SCOPES), "admin"})
#: `runs.*` stands for every scope that begins with `runs.`, today's and tomorrow's.
WILDCARDS: tuple[str, ...] = tuple(f"{section}.*" for section in _SECTIONS)


class UnknownScopeError(EngineError):
    """Name scopes nobody has defined; a token must not carry them."""

    code = "scope_unknown"


def allows(granted: Iterable[str], needed: str) -> bool:
    """Tell whether the granted scopes cover the needed one; `<prefix>.*` matches by prefix."""
    return any(
        scope == needed or (scope.endswith(".*") and needed.startswith(scope[:-1]))
        for scope in granted
    )


def parse(text: str) -> list[str]:
    """Return the scopes of a comma- or space-separated list, each once, in the order given.

    Raises UnknownScopeError naming the unknown ones and listing those that exist.
    """
    wanted = list(dict.fromkeys(text.replace(",", " ").split()))
    unknown = [scope for scope in wanted if scope not in SCOPES and scope not in WILDCARDS]
    known = ", ".join([*SCOPES, *WILDCARDS])
    if unknown:
        raise UnknownScopeError(f"Unknown scope: {', '.join(unknown)}. Known scopes: {known}")
    if not wanted:
        raise UnknownScopeError(f"At least one scope is needed. Known scopes: {known}")
    return wanted


def of_user(*, superuser: bool, has_permission: Callable[[str], bool]) -> list[str]:
    """Return the scopes of a person: all for a superuser, else those of their permissions."""
    if superuser:
        return [*SCOPES, "admin.*"]
    return [scope for scope, permission in PERMISSIONS.items() if has_permission(permission)]
