"""Who calls the API: the holder of a verified token, as DRF sees a user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rest_framework.exceptions import NotAuthenticated

from engine.access import policy

if TYPE_CHECKING:
    from rest_framework.request import Request

    from engine.access.policy import Policy
    from engine.access.tokens import Claims


def of(request: Request) -> Principal:
    """Return who calls; the permission has refused everybody else before."""
    found: object = request.user
    if not isinstance(found, Principal):
        raise NotAuthenticated
    return found


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a token: no row of the database stands behind it."""

    claims: Claims
    is_authenticated: bool = field(default=True, init=False)
    is_active: bool = field(default=True, init=False)

    @property
    def subject(self) -> str:
        """Return the name that actions are recorded under."""
        return self.claims.subject

    @property
    def pk(self) -> str:
        """Return what throttles count by."""
        return self.claims.subject

    @property
    def policy(self) -> Policy:
        """Return what the token allows, and where."""
        return policy.of_scopes(self.claims.scopes)
