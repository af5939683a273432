"""Which scope a call needs; a token without it gets 403 naming it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission

from engine.api.principal import Principal

if TYPE_CHECKING:
    from rest_framework.request import Request


class ScopeMissing(PermissionDenied):
    """Refuse a call whose token lacks the scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"The token lacks the scope {scope}.", code="scope_missing")
        self.scope = scope


class HasScope(BasePermission):
    """Ask the view's `scopes`: {method: scope}. A method without an entry is open to any token."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True, or raise 401 or 403 with the scope that is missing."""
        user: object = request.user
        if not isinstance(user, Principal):
            raise NotAuthenticated("This needs a token: Authorization: Bearer <token>")
        method = "GET" if request.method in {"HEAD", "OPTIONS"} else request.method
        scopes: dict[str, str] = getattr(view, "scopes", {})
        needed = scopes.get(method or "")
        if needed is not None and not user.allows(needed):
            raise ScopeMissing(needed)
        return True
