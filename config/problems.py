"""Answers for what no view answered: problem details for clients, Django's pages in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse
from django.views import defaults

from engine.api import problems

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def answer(request: HttpRequest, *, status: int, code: str, detail: str) -> HttpResponse:
    """Return a problem as a plain Django response."""
    body = problems.document(
        status=status, code=code, detail=detail, request_id=getattr(request, "request_id", "")
    )
    return JsonResponse(body, status=status, content_type=problems.MEDIA_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400 for what Django itself refuses (handler400)."""
    if _in_admin(request):
        return defaults.bad_request(request, exception)
    return answer(request, status=400, code="request_invalid", detail="The request is malformed.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403 (handler403)."""
    if _in_admin(request):
        return defaults.permission_denied(request, exception)
    return answer(request, status=403, code="permission_denied", detail="This is not allowed.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404 (handler404)."""
    if _in_admin(request):
        return defaults.page_not_found(request, exception)
    return answer(request, status=404, code="not_found", detail="There is nothing at this address.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 without a word about the cause: that is in the log, by request id (handler500)."""
    if _in_admin(request):
        return defaults.server_error(request)
    return answer(
        request,
        status=500,
        code="internal_error",
        detail="Something went wrong here; the log has it under this request id.",
    )


def _in_admin(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/")
