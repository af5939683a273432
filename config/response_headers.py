"""Header fields that answers carry whatever view made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api import throttles

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


class ResponseHeaders:
    """Tell callers where they stand with their rate."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Take the rest of the chain."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request and add the fields."""
        response = self.get_response(request)
        for name, value in throttles.fields(request).items():
            response[name] = value
        return response
