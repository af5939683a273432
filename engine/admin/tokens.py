"""Tokens of machines: who has one, for what, and when it was last used; they can be revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils import timezone

from engine.access import machines, revocations
from engine.admin.acting import act, actor
from engine.admin.reading import ReadingAdmin, badge, moment
from engine.models import MachineToken

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

_TONES = {"active": "succeeded", "revoked": "failed", "expired": "expired"}


@admin.register(MachineToken)
class MachineTokenAdmin(ReadingAdmin):
    """What `mint_jwt` wrote down, newest first; the tokens themselves are kept nowhere."""

    empty_text = "manage.py mint_jwt --scopes SCOPES prints one for a program."
    read_scope = write_scope = "admin.tokens"
    list_display = [
        "shown_state",
        "subject",
        "shown_scopes",
        "expires",
        "used",
        "created_by",
        "identity",
    ]
    search_fields = ["subject", "jti"]
    search_help_text = "Subject or id of the token"
    ordering = ["-id"]
    sortable_by: list[str] = []
    actions = ["revoke_selected"]
    fields = [
        "shown_state",
        "subject",
        "shown_scopes",
        "identity",
        "signed_with",
        "created_at",
        "created_by",
        "expires_at",
        "last_used_at",
        "revoked_at",
        "revoked_by",
    ]
    readonly_fields = fields

    @admin.display(description="State")
    def shown_state(self, row: MachineToken) -> SafeString:
        """Return whether it is good now."""
        standing = machines.standing(row, now=timezone.now())
        return badge(_TONES[standing], text=standing)

    @admin.display(description="Scopes")
    def shown_scopes(self, row: MachineToken) -> str:
        """Return the scopes."""
        return " ".join(row.scopes)

    @admin.display(description="Id")
    def identity(self, row: MachineToken) -> str:
        """Return the id by which `revoke_token --jti` names it."""
        return row.jti

    @admin.display(description="Signed with key")
    def signed_with(self, row: MachineToken) -> str:
        """Return the id of the key."""
        return row.kid

    @admin.display(description="Expires")
    def expires(self, row: MachineToken) -> str:
        """Return when it ends by itself."""
        return moment(row.expires_at)

    @admin.display(description="Last used")
    def used(self, row: MachineToken) -> str:
        """Return when it was last used, to the minute."""
        return moment(row.last_used_at) or "never"

    @admin.action(description="Revoke: refused from now on", permissions=["act"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[MachineToken]) -> None:
        """Revoke the selected tokens."""
        by = actor(request)

        def door(row: MachineToken) -> object:
            return revocations.revoke_token(row.jti, by=by, expires_at=row.expires_at)

        act(request, door, queryset, done="Revoked")
