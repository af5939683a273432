"""Say of every request from where it comes, for what is recorded while it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.audit import origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

#: Where other systems knock: their signature is judged there, not a token.
HOOKS = "hooks/"
ADMIN = "admin/"


class RequestOrigin:
    """Stand behind Django's authentication, so that who uses the admin is known."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Take the rest of the chain."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with the request as origin; the API's authentication adds who it is.

        The address is the connection's, which the server has replaced by a trusted proxy's word.
        """
        here = origin.Origin(
            source="api",
            address=request.META.get("REMOTE_ADDR", ""),
            request_id=getattr(request, "request_id", ""),
        )
        with origin.of(here):
            return self.get_response(request)

    def process_view(
        self,
        request: HttpRequest,
        _view: Callable[..., HttpResponseBase],
        _args: tuple[Any, ...],
        _kwargs: dict[str, Any],
    ) -> None:
        """Tell the faces apart once the route is known."""
        match = request.resolver_match
        if match is None:
            return
        if match.route.startswith(ADMIN):
            origin.come_from("admin")
            if request.user.is_authenticated:
                origin.identify(request.user.get_username())
        elif match.route.startswith(HOOKS):
            origin.come_from("hook")
