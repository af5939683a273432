"""Which scope a call needs, and in which department; a token without it gets 403 naming it.

A view says what it needs in `scopes`. Whoever holds that in some departments only is let in if the
view says `by_department = True`: it then asks here about each thing it touches (`require`), cuts
its lists (`reach`) and shows what holds payload by `shown`. A thing that its caller may not see is
not there: 404, in the same words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission

from engine import disclosure
from engine.access import scopes
from engine.api import principal
from engine.api.principal import Principal
from engine.disclosure import Disclosed
from engine.errors import NotFoundError

if TYPE_CHECKING:
    from rest_framework.request import Request

    from engine.access.policy import Reach

Form = TypeVar("Form", bound=Disclosed)


class ScopeMissing(PermissionDenied):
    """Refuse a call whose token lacks the scope, in the department if one is named."""

    def __init__(self, scope: str, department: str | None = None) -> None:
        place = f" in the department {department}" if department else ""
        super().__init__(f"The token lacks the scope {scope}{place}.", code="scope_missing")
        self.scope = scope


class HasScope(BasePermission):
    """Ask the view's `scopes`: {method: scope}. A method without an entry is open to any token."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True, or raise 401 or 403 with the scope that is missing."""
        user: object = request.user
        if not isinstance(user, Principal):
            raise NotAuthenticated("This needs a token: Authorization: Bearer <token>")
        method = "GET" if request.method in {"HEAD", "OPTIONS"} else request.method
        declared: dict[str, str] = getattr(view, "scopes", {})
        needed = declared.get(method or "")
        if needed is None:
            return True
        held = user.policy.departments(needed)
        if held.everywhere or (held and getattr(view, "by_department", False)):
            return True
        raise ScopeMissing(needed)


def reach(request: Request, scope: str) -> Reach:
    """Return the departments in which the caller holds the scope: what a list may show."""
    return principal.of(request).policy.departments(scope)


def require(request: Request, scope: str, department: str | None, *, missing: str) -> None:
    """Let a call through that holds the scope in the department of the thing it touches.

    department: None for what belongs to none; then the scope must be held everywhere.
    missing: what is said of a thing that does not exist. Raises NotFoundError with these words
    when the caller may not even see the thing, else ScopeMissing.
    """
    policy = principal.of(request).policy
    if policy.allows(scope, department):
        return
    if policy.allows(scopes.seen_by(scope), department):
        raise ScopeMissing(scope, department)
    raise NotFoundError(missing)


def shown(request: Request, form: Form, department: str | None) -> Form:
    """Return the form as the caller may see it; the thing it shows is of that department."""
    return disclosure.shown(form, principal.of(request).policy, department)
