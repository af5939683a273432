"""What a token may carry: every scope there is, and how scopes are written and matched. Pure.

`finance:runs.read` is the scope `runs.read` in the department `finance` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Every scope there is, with what it lets its holder do (CONTRACT §2).
SCOPES: dict[str, str] = {
    "runs.read": "see runs, their steps, events and progress, without what they are about",
    "runs.payloads": "see inputs, outputs, error messages and event data of what may be read",
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
    "admin.people": "see and change people, and grant roles",
}

_SECTIONS = sorted({*(scope.partition(".")[0] for scope in SCOPES), "admin"})
#: The scope by which a thing can be seen that the other scope acts on, where it is not
#: `<section>.read`: whoever may see the thing is told which scope is missing.
_SEEN_BY = {"artifacts.read": "runs.read", "approvals.decide": "runs.read"}
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


def limited(scope: str, department: str) -> str:
    """Return the scope as it is written when it holds in one department only."""
    return f"{department}:{scope}"


def parted(text: str) -> tuple[str, str]:
    """Return (department, scope) of a written scope; the department is empty for all of them."""
    department, colon, scope = text.rpartition(":")
    return (department, scope) if colon else ("", text)


def seen_by(scope: str) -> str:
    """Return the scope whose holders may see what this scope acts on."""
    return _SEEN_BY.get(scope, f"{scope.partition('.')[0]}.read")


def parse(text: str) -> list[str]:
    """Return the scopes of a comma- or space-separated list, each once, in the order given.

    Raises UnknownScopeError naming the unknown ones and listing those that exist.
    """
    wanted = list(dict.fromkeys(text.replace(",", " ").split()))
    unknown = [written for written in wanted if not _is_known(written)]
    known = ", ".join([*SCOPES, *WILDCARDS])
    if unknown:
        raise UnknownScopeError(f"Unknown scope: {', '.join(unknown)}. Known scopes: {known}")
    if not wanted:
        raise UnknownScopeError(f"At least one scope is needed. Known scopes: {known}")
    return wanted


def _is_known(written: str) -> bool:
    department, scope = parted(written)
    # What can name a department (engine.registry); whether one is there is not asked for.
    is_named = department.replace("_", "").isalnum() if ":" in written else True
    return is_named and (scope in SCOPES or scope in WILDCARDS)
