"""`/openapi.json`, made once a process: it takes half a second of work, and anybody may ask."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.response import Response

if TYPE_CHECKING:
    from rest_framework.request import Request


class _Process:
    """What this process has made; code does not change under it."""

    lock = threading.Lock()
    made: dict[str, Any] | None = None


class DescriptionView(SpectacularJSONAPIView):
    """The description of the API, the same for everybody, whatever the address asks for."""

    #: It does not describe itself.
    schema = None

    def get(self, request: Request, *_args: Any, **_kwargs: Any) -> Response:
        """Answer with the description."""
        # One makes it, the others wait: at a start many may ask at once.
        with _Process.lock:
            if _Process.made is None:
                generator: Any = self.generator_class()
                _Process.made = generator.get_schema(request=request, public=True)
        return Response(_Process.made)


def forget() -> None:
    """Make it anew for whoever asks next."""
    with _Process.lock:
        _Process.made = None
