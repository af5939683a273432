"""Who holds which role where: the only reader and writer of those rows.

A change refuses the access tokens the user has, in the same transaction: the next refresh gives one
with the scopes of then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from django.contrib.auth.models import AnonymousUser
from django.db import transaction

from engine import registry
from engine.access import policy, revocations, roles
from engine.access.roles import Grant
from engine.audit import trail
from engine.errors import EngineError
from engine.models import Lane, RoleGrant

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from engine.access.policy import Policy

log = structlog.get_logger(__name__)


class GrantInvalidError(EngineError):
    """Refuse a role or a department that nobody knows."""

    code = "grant_invalid"


def held_by(user: User | AnonymousUser) -> list[Grant]:
    """Return the roles of a user: admin everywhere of a superuser, none of an inactive one."""
    if isinstance(user, AnonymousUser) or not user.is_active:
        return []
    if user.is_superuser:
        return [roles.SUPERUSER]
    rows = RoleGrant.objects.filter(user=user).order_by("department", "role")
    return [Grant(row.role, row.department) for row in rows]


def policy_of(user: User | AnonymousUser) -> Policy:
    """Return what a user may do now."""
    return policy.of_scopes(tuple(roles.scopes_of(held_by(user))))


def departments() -> list[str]:
    """Return the slugs a role can be limited to: declared, or once declared."""
    return sorted({*registry.departments, *Lane.objects.values_list("slug", flat=True)})


def is_held(*, user: User, role: str, department: str = "") -> bool:
    """Tell whether this very role was granted."""
    return RoleGrant.objects.filter(user=user, role=role, department=department).exists()


def grant(*, user: User, role: str, department: str = "", by: str) -> bool:
    """Give a role; False when it was held already. Raises GrantInvalidError naming what is known.

    department: a slug, or empty for all of them. by: who says so.
    """
    if role not in roles.ROLES:
        raise GrantInvalidError(f"There is no role {role!r}. Known: {', '.join(roles.ROLES)}.")
    if department and department not in (known := departments()):
        raise GrantInvalidError(
            f"There is no department {department!r}. Known: {', '.join(known) or 'none'}."
        )
    with transaction.atomic():
        _row, created = RoleGrant.objects.get_or_create(user=user, role=role, department=department)
        if created:
            revocations.revoke_access(user.pk, by=by)
            _record("role.grant", user, role, department, by)
    if created:
        log.info("role_granted", user=user.pk, role=role, department=department, by=by)
    return created


def revoke(*, user: User, role: str, department: str = "", by: str) -> bool:
    """Take a role away; False when it was not held. by: who says so."""
    found = RoleGrant.objects.filter(user=user, role=role, department=department)
    with transaction.atomic():
        taken = bool(found.delete()[0])
        if taken:
            revocations.revoke_access(user.pk, by=by)
            _record("role.revoke", user, role, department, by)
    if taken:
        log.info("role_revoked", user=user.pk, role=role, department=department, by=by)
    return taken


def _record(action: str, user: User, role: str, department: str, by: str) -> None:
    what = {"role": role, "department": department}
    before, after = (what, None) if action == "role.revoke" else (None, what)
    name = user.get_username()
    trail.record(action, kind="user", id=name, actor=by, before=before, after=after)
