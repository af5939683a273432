"""Buttons on the page of one row: each posts to an address of its own and does one act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path

from engine.admin.reading import ReadingAdmin

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern


class ButtonAdmin(ReadingAdmin):
    """Show one row with what can be done with it (`can_act` in the templates), and do that."""

    #: What the buttons may ask for; anything else is not there.
    verbs: ClassVar[Collection[str]] = ()
    #: Django's converter of the row's key in an address.
    key_converter: ClassVar[str] = "int"

    def press(self, request: HttpRequest, verb: str, row: Any) -> str:
        """Do the act; return the address of the page that is shown then."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the buttons."""
        named = self.model._meta  # noqa: SLF001 - Django's documented attribute
        own = path(
            f"<{self.key_converter}:key>/act/<str:verb>",
            self.admin_site.admin_view(self.act_view),
            name=f"{named.app_label}_{named.model_name}_act",
        )
        return [own, *super().get_urls()]

    def act_view(self, request: HttpRequest, key: Any, verb: str) -> HttpResponse:
        """Do one act on one row."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_queryset(request).filter(pk=key).first()
        if not self.has_act_permission(request, row):
            raise PermissionDenied
        if row is None or verb not in self.verbs:
            raise Http404
        return HttpResponseRedirect(self.press(request, verb, row))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the row with what can be done."""
        row = self.get_object(request, object_id)
        can = row is not None and self.has_act_permission(request, row)
        more = {"can_act": can, **(extra_context or {})}
        response: HttpResponse = super().change_view(request, object_id, form_url, more)
        return response
