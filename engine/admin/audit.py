"""Who did what: the audit trail, to read, for admins of everything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q
from django.utils.html import format_html

from engine.admin.reading import ReadingAdmin, badge, moment
from engine.models import AuditRecord, AuditSeal

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString


@admin.register(AuditRecord)
class AuditAdmin(ReadingAdmin):
    """Records, newest first."""

    empty_text = "Every act of operators, callers and commands is here."
    list_display = ["number", "when", "who", "source", "what", "thing", "address"]
    list_filter = ["source", "outcome"]
    search_fields = ["=actor"]
    search_help_text = "Who, an act such as run.cancel, or the id of what was acted on"
    ordering = ["-id"]
    sortable_by: list[str] = []
    fields = [
        *("number", "when", "who", "source", "what", "thing", "address", "request_id"),
        *("was", "became", "sealed"),
    ]
    readonly_fields = fields

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        queryset: QuerySet[AuditRecord],
        search_term: str,
    ) -> tuple[QuerySet[AuditRecord], bool]:
        """Find by the whole word: nothing is looked through."""
        term = search_term.strip().replace("\x00", "")
        if not term:
            return queryset, False
        return queryset.filter(Q(actor=term) | Q(action=term) | Q(object_id=term)), False

    @admin.display(description="#")
    def number(self, row: AuditRecord) -> str:
        """Return the number."""
        return f"#{row.pk}"

    @admin.display(description="When")
    def when(self, row: AuditRecord) -> str:
        """Return the moment, by the clock of the database."""
        return moment(row.at)

    @admin.display(description="Who")
    def who(self, row: AuditRecord) -> str:
        """Return who acted."""
        return row.actor or "nobody known"

    @admin.display(description="Did")
    def what(self, row: AuditRecord) -> SafeString | str:
        """Return the act, and whether it was refused."""
        if row.outcome == "done":
            return row.action
        return format_html("{} {}", row.action, badge("failed", text=row.outcome))

    @admin.display(description="On")
    def thing(self, row: AuditRecord) -> str:
        """Return what was acted on."""
        return f"{row.object_kind.replace('_', ' ')} {row.object_id}".strip()

    @admin.display(description="Before")
    def was(self, row: AuditRecord) -> SafeString | str:
        """Return how it was."""
        return _json(row.before)

    @admin.display(description="After")
    def became(self, row: AuditRecord) -> SafeString | str:
        """Return how it became."""
        return _json(row.after)

    @admin.display(description="Sealed")
    def sealed(self, row: AuditRecord) -> str:
        """Return the link of the chain that holds it."""
        seal = AuditSeal.objects.filter(record_ids__contains=[row.pk]).first()
        return f"in seal {seal.number}, {moment(seal.at)}" if seal else "not yet"


def _json(value: Any) -> SafeString | str:
    if value is None:
        return "-"
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre class="abe-code">{}</pre>', text)
