"""Worker processes, as they last said themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils import timezone

from engine.admin.reading import ReadingAdmin, badge
from engine.models import WorkerPresence

if TYPE_CHECKING:
    from django.utils.safestring import SafeString


@admin.register(WorkerPresence)
class WorkerAdmin(ReadingAdmin):
    """Workers: of the whole installation, so for those who see every department."""

    empty_text = "No worker has ever said that it is there. make run starts one."
    read_scope = "departments.read"
    list_display = ["hostname", "online", "served", "concurrency", "pid", "started_at", "seen_at"]
    ordering = ["hostname"]
    fields = ["hostname", "online", "served", "concurrency", "pid", "started_at", "seen_at"]
    readonly_fields = fields

    @admin.display(description="State")
    def online(self, row: WorkerPresence) -> SafeString:
        """Return whether it spoke lately."""
        silent = (timezone.now() - row.seen_at).total_seconds()
        online = silent < WorkerPresence.ONLINE_SECONDS
        return badge("succeeded", text="online") if online else badge("failed", text="silent")

    @admin.display(description="Queues")
    def served(self, row: WorkerPresence) -> str:
        """Return the queues it serves."""
        return ", ".join(row.queues)
