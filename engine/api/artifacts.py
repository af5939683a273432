"""`/artifacts/{id}`: the content of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.views import APIView

from engine import artifacts, downloads
from engine.api import permissions, requests
from engine.api.problems import Problem

if TYPE_CHECKING:
    from django.http import HttpResponseBase
    from rest_framework.request import Request


class ArtifactView(APIView):
    """The content of a file, always as a download."""

    scopes: ClassVar[dict[str, str]] = {"GET": "artifacts.read"}
    by_department = True

    @extend_schema(
        tags=["artifacts"],
        operation_id="downloadArtifact",
        summary="Download a file",
        responses={
            (200, "application/octet-stream", "*/*"): OpenApiResponse(OpenApiTypes.BINARY),
            404: Problem,
        },
    )
    def get(self, request: Request, artifact_id: str) -> HttpResponseBase:
        """Download."""
        requests.nothing(request)
        found = artifacts.get(artifact_id=requests.uuid(artifact_id, what="artifact"))
        # Seen through its run; an upload belongs to none, so to no department.
        department = found.run.department if found.run else None
        missing = f"There is no artifact {found.pk}"
        permissions.require(request, "artifacts.read", department, missing=missing)
        return downloads.response(request._request, found)  # noqa: SLF001 - Django's own request
