"""Files of runs, with their downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.template.defaultfilters import filesizeformat
from django.urls import path, reverse
from django.utils.html import format_html

from engine import artifacts, downloads
from engine.admin.reading import ReadingAdmin, moment, run_link
from engine.errors import NotFoundError
from engine.models import Artifact

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from django.urls import URLPattern
    from django.utils.safestring import SafeString


@admin.register(Artifact)
class ArtifactAdmin(ReadingAdmin):
    """Files, newest first; an upload of no run is for those who may see files everywhere."""

    empty_text = "What runs read and make, and what was uploaded for them, is here."
    read_scope, department_field = "artifacts.read", "run__department"
    list_display = ["name", "media_type", "shown_size", "created", "of_run", "download"]
    search_fields = ["=sha256"]
    search_help_text = "The SHA-256 of the content"
    ordering = ["-id"]
    sortable_by: list[str] = []
    fields = [
        "name",
        "media_type",
        "shown_size",
        "sha256",
        "created_by",
        "created_at",
        "of_run",
        "download",
    ]
    readonly_fields = fields

    @admin.display(description="Size")
    def shown_size(self, row: Artifact) -> str:
        """Return the size for people."""
        return filesizeformat(row.size)

    @admin.display(description="Created")
    def created(self, row: Artifact) -> str:
        """Return when it was stored."""
        return moment(row.created_at)

    @admin.display(description="Run")
    def of_run(self, row: Artifact) -> SafeString | str:
        """Return a link to the run."""
        return run_link(row.run_id) if row.run_id else "uploaded"

    @admin.display(description="Content")
    def download(self, row: Artifact) -> SafeString:
        """Return a link to the content."""
        address = reverse("admin:engine_artifact_download", args=[row.pk])
        return format_html('<a class="abe-link" href="{}">Download</a>', address)

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002 - Django's signature
        queryset: QuerySet[Artifact],
        search_term: str,
    ) -> tuple[QuerySet[Artifact], bool]:
        """Find by content hash, which has an index."""
        term = search_term.strip().replace("\x00", "")
        return (queryset.filter(sha256=term.lower()) if term else queryset), False

    def get_urls(self) -> list[URLPattern]:
        """Add the download."""
        own = path(
            "<uuid:artifact_id>/download",
            self.admin_site.admin_view(self.download_view),
            name="engine_artifact_download",
        )
        return [own, *super().get_urls()]

    def download_view(self, request: HttpRequest, artifact_id: UUID) -> HttpResponseBase:
        """Hand out the content."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            found = artifacts.get(artifact_id=artifact_id)
            if not self.has_view_permission(request, found):
                raise Http404
            return downloads.response(request, found)
        except NotFoundError as exc:
            raise Http404(exc.message) from None
