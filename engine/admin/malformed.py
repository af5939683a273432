"""Refuse what no page of the admin can mean before Django's pages stumble over it: 400 or 404."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import BadRequest, ValidationError
from django.core.paginator import InvalidPage
from django.http import Http404

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib import admin
    from django.db.models import Field
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from django.template.response import TemplateResponse

ADMIN = "/admin/"
#: Django's way from any row of any table to its own page. No row has one outside the admin; all the
#: way could tell is which rows there are.
SHORTCUT = "/admin/r/"
#: What the check boxes of a list send.
CHOSEN = "_selected_action"


class RefuseMalformed:
    """Refuse addresses that hold what PostgreSQL cannot compare text with, and the shortcut."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Take the rest of the chain."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request, or refuse it."""
        if request.path_info.startswith(ADMIN):
            words = [request.path_info, *request.GET, *_values(request)]
            if any("\x00" in word for word in words):
                raise BadRequest("A NUL character stands in the address.")
            if request.path_info.startswith(SHORTCUT):
                raise Http404
        return self.get_response(request)


def require_keys(request: HttpRequest, key: Field[Any, Any]) -> None:
    """Refuse a selection that holds what is no key of the table."""
    for text in request.POST.getlist(CHOSEN):
        try:
            key.to_python(text)
        except ValidationError:
            raise BadRequest("What was selected is no row.") from None
        if "\x00" in text:
            raise BadRequest("What was selected is no row.")


def bound_search(site: admin.AdminSite) -> None:
    """Let the search of the menu answer 404 for a page that there is not."""
    original = site.search  # type: ignore[attr-defined] # of unfold's site

    def bounded(
        request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        try:
            found: TemplateResponse = original(request, extra_context)
        except InvalidPage:
            raise Http404 from None
        return found

    site.search = bounded  # type: ignore[attr-defined]


def _values(request: HttpRequest) -> list[str]:
    return [value for name in request.GET for value in request.GET.getlist(name)]
