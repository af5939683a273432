"""What a role allows: the table, and the scopes that grants of roles amount to. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.access import scopes

if TYPE_CHECKING:
    from collections.abc import Iterable

#: See that and how work goes on, never what it is about.
VIEWER = ("runs.read", "departments.read", "dead_letters.read", "schedules.read")
#: See what the work is about, and decide; start and steer nothing.
APPROVER = (*VIEWER, "runs.payloads", "artifacts.read", "approvals.decide")
#: Start and steer; not decide (two pairs of eyes), nor say where data and credentials go.
OPERATOR = (
    *VIEWER,
    "runs.write",
    "runs.payloads",
    "departments.write",
    "artifacts.read",
    "dead_letters.write",
    "schedules.write",
    "connections.read",
    "webhooks.read",
)
#: Everything, people included where it is granted for every department.
ADMIN = (*scopes.SCOPES, "admin.*")

#: Role → its scopes.
ROLES: dict[str, tuple[str, ...]] = {
    "viewer": VIEWER,
    "operator": OPERATOR,
    "approver": APPROVER,
    "admin": ADMIN,
}


class Grant(NamedTuple):
    """A role held in one department, by slug; empty is in all of them."""

    role: str
    department: str = ""


#: What a superuser holds, whatever is granted.
SUPERUSER = Grant("admin")


def scopes_of(grants: Iterable[Grant]) -> list[str]:
    """Return the scopes of the grants together, as a token carries them, each once.

    What is held in every department comes first and is not repeated for one. A role this version
    does not know gives nothing.
    """
    held: dict[str, set[str]] = {"": set()}
    for grant in grants:
        held.setdefault(grant.department, set()).update(ROLES.get(grant.role, ()))
    everywhere = held.pop("")
    found = [scope for scope in ADMIN if scope in everywhere]
    for department in sorted(held):
        limited = held[department] - everywhere
        found += [scopes.limited(scope, department) for scope in ADMIN if scope in limited]
    return found
