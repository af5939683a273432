"""Pages that only read: rows are changed through the doors of the engine, never by a form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from engine.admin import rights
from engine.disclosure import HIDDEN

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from django.db.models import Model
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

#: Up to here rows are counted, and turned over by pages; above, PostgreSQL's own estimate is good
#: enough for a number, and filters find what is older: page 20,000 would read all before it.
COUNTED_ROWS = 10_000

#: State → the tone of its badge: what an operator must see from afar.
TONES = {
    "succeeded": "good",
    "confirmed": "good",
    "requeued": "good",
    "open": "bad",
    "unknown": "bad",
    "running": "live",
    "queued": "live",
    "sent": "live",
    "ready": "live",
    "blocked": "bad",
    "dead": "bad",
    "failed": "bad",
    "timed_out": "bad",
    "paused": "hold",
    "retry_wait": "hold",
    "cancelling": "hold",
    "awaiting": "hold",
    "sleeping": "hold",
}


def badge(state: str, *, text: str = "") -> SafeString:
    """Return a state as a coloured badge, with another text if one is given."""
    return format_html(
        '<span class="abe-badge abe-{}">{}</span>',
        TONES.get(state, "calm"),
        text or state.replace("_", " "),
    )


def lane_badge(*, paused: bool) -> SafeString:
    """Return whether a department's work is sent."""
    return badge("paused") if paused else badge("succeeded", text="open")


def run_link(run_id: UUID) -> SafeString:
    """Return a link to a run, named by the end of its id: the beginning is the time."""
    address = reverse("admin:engine_run_change", args=[run_id])
    return format_html('<a class="abe-link abe-id" href="{}">…{}</a>', address, str(run_id)[-12:])


def moment(at: datetime | None) -> str:
    """Return a time as operators compare it: to the second, in the order it sorts."""
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S}" if at else ""


class EstimatingPaginator(Paginator):  # type: ignore[type-arg] # not subscriptable at run time
    """Count at most COUNTED_ROWS rows: a huge table opens as fast as a small one."""

    @cached_property
    def count(self) -> int:
        """Return the exact number of rows while it is small, an estimate above."""
        rows: Any = self.object_list
        exact = int(rows.order_by()[: COUNTED_ROWS + 1].count())
        if exact <= COUNTED_ROWS or rows.query.where:
            return exact
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass",
                [rows.model._meta.db_table],  # noqa: SLF001 - Django's documented attribute
            )
            (estimate,) = cursor.fetchone()
        return max(exact, int(estimate))

    @cached_property
    def num_pages(self) -> int:
        """Return how many pages can be turned."""
        return min(int(super().num_pages), max(1, COUNTED_ROWS // self.per_page))


class RowList(ChangeList):  # type: ignore[misc] # unfold ships no types
    """A list that says how many of all are shown only where it does not show all."""

    def get_results(self, request: HttpRequest) -> None:
        """Know that without a filter all are shown: nothing is counted for it."""
        super().get_results(request)
        if not self.query and not self.has_active_filters:
            self.full_result_count = self.result_count


class ReadingAdmin(rights.ByPolicy, ModelAdmin):  # type: ignore[misc] # unfold ships no types
    """List and show; nothing is added, changed or deleted here."""

    #: Fields that are shown to whoever may see payload of the row's department.
    payload_fields: ClassVar[tuple[str, ...]] = ()
    #: What an empty page says: what would be here, and how it comes to be.
    empty_text: ClassVar[str] = ""

    paginator = EstimatingPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = False
    actions_on_top = True
    compressed_fields = True
    list_disable_select_all = True
    search_help_text: ClassVar[str | None] = None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002
        """Return the class of the list."""
        return RowList

    @admin.display(description="Payload")
    def payload(self, row: Model) -> str:  # noqa: ARG002 - Django's signature
        """Return what stands in place of payload."""
        return HIDDEN

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        """Leave payload out where the user may not see it, and say so."""
        fields = list(super().get_fields(request, obj))
        if not self.payload_fields or obj is None:
            return fields
        if rights.sees_payloads(request, self.department_of(obj)):
            return fields
        return [*(name for name in fields if name not in self.payload_fields), "payload"]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        """Return all fields: nothing is changed here."""
        return [*super().get_readonly_fields(request, obj), "payload"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Refuse: rows come from the engine."""
        return False

    def has_change_permission(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        obj: Model | None = None,  # noqa: ARG002
    ) -> bool:
        """Refuse: rows change through the doors."""
        return False

    def has_delete_permission(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        obj: Model | None = None,  # noqa: ARG002
    ) -> bool:
        """Refuse: history stays."""
        return False
