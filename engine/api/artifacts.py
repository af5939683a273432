"""`/artifacts/{id}`: the content of a file."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from engine import artifacts, downloads
from engine.api import permissions, problems, requests
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
        description=(
            "Always an attachment. Its `ETag` never changes: `If-None-Match` is answered by 304, "
            "one `Range` of bytes by that part (206), so that a download can go on where it broke "
            "off."
        ),
        parameters=[
            OpenApiParameter(
                "Range",
                str,
                OpenApiParameter.HEADER,
                description="`bytes=0-1023`, `bytes=1024-` or `bytes=-512`; else all is answered",
            )
        ],
        responses={
            (200, "application/octet-stream", "*/*"): OpenApiResponse(OpenApiTypes.BINARY),
            (206, "application/octet-stream", "*/*"): OpenApiResponse(OpenApiTypes.BINARY),
            404: Problem,
            416: Problem,
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
        answer = downloads.response(request._request, found)  # noqa: SLF001 - Django's own request
        if answer.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return answer
        refused = problems.document(
            status=416,
            code="range_not_satisfiable",
            detail=f"The file has {found.size} bytes; the range begins behind them.",
            errors=[("Range", "begins behind the end")],
            request_id=requests.request_id(request),
        )
        return Response(
            refused,
            status=416,
            headers={"Content-Range": answer.headers["Content-Range"]},
            content_type=problems.MEDIA_TYPE,
        )
