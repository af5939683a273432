"""Header fields that answers carry whatever made them; what a view says itself stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api import throttles

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

#: What pages of ours use of a device: nothing.
_FEATURES = (
    "accelerometer",
    "autoplay",
    "bluetooth",
    "camera",
    "display-capture",
    "encrypted-media",
    "fullscreen",
    "geolocation",
    "gyroscope",
    "hid",
    "idle-detection",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "publickey-credentials-get",
    "screen-wake-lock",
    "serial",
    "usb",
    "xr-spatial-tracking",
)
#: HSTS is Django's own, in production; a policy of contents is `config.content_security`'s.
FIELDS = {
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _FEATURES),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: Django compares the referrer of forms that come by HTTPS.
    "Referrer-Policy": "same-origin",
    # Of loading without asking; what CORS allows is not touched by it.
    "Cross-Origin-Resource-Policy": "same-origin",
    # Answers are somebody's own; files that are everybody's say otherwise.
    "Cache-Control": "no-store",
}


class ResponseHeaders:
    """Say how answers may be used, and where callers stand with their rate."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Take the rest of the chain."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request and add the fields."""
        response = self.get_response(request)
        for name, value in FIELDS.items():
            response.setdefault(name, value)
        # drf-spectacular opens `/docs` to windows of OAuth, which there are none of here.
        response["Cross-Origin-Opener-Policy"] = "same-origin"
        for name, value in throttles.fields(request).items():
            response[name] = value
        return response
