"""Failed sign-ins and their locks; whoever may change people may lift them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.utils import timezone

from engine.access import lockouts
from engine.admin.reading import ReadingAdmin, badge, moment
from engine.models import Lockout

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString


@admin.register(Lockout)
class LockoutAdmin(ReadingAdmin):
    """What failed and is not forgotten, the latest first."""

    empty_text = "Nobody has failed to sign in lately."
    read_scope = write_scope = "admin.people"
    list_display = ["shown_state", "about", "kind", "failures", "failed", "until"]
    list_filter = ["kind"]
    search_fields = ["account", "address"]
    search_help_text = "Account or address"
    ordering = ["-last_failed_at"]
    sortable_by: list[str] = []
    actions = ["clear_selected"]
    fields = ["shown_state", "kind", "account", "address", "failures", "failed", "until"]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Lockout]:  # noqa: ARG002
        """Return what failed; that somebody signed in somewhere is nobody's business here."""
        return lockouts.failing()

    @admin.display(description="State")
    def shown_state(self, row: Lockout) -> SafeString:
        """Return whether tries are refused now."""
        locked = row.locked_until is not None and row.locked_until > timezone.now()
        return badge("failed", text="locked") if locked else badge("open tries", text="counting")

    @admin.display(description="For")
    def about(self, row: Lockout) -> str:
        """Return account and address; a name that is no account's is not shown."""
        return str(row)

    @admin.display(description="Last failure")
    def failed(self, row: Lockout) -> str:
        """Return when it last failed."""
        return moment(row.last_failed_at)

    @admin.display(description="Locked until")
    def until(self, row: Lockout) -> str:
        """Return when tries are looked at again."""
        return moment(row.locked_until)

    @admin.action(description="Clear: they may try again", permissions=["act"])
    def clear_selected(self, request: HttpRequest, queryset: QuerySet[Lockout]) -> None:
        """Forget the failures of the selected rows."""
        cleared = lockouts.clear(ids=queryset.values_list("pk", flat=True))
        messages.success(request, f"Cleared: {cleared}.")
