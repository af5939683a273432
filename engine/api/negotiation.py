"""The API speaks JSON to everybody, whatever `Accept` says; errors then keep their shape too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.negotiation import BaseContentNegotiation

if TYPE_CHECKING:
    from collections.abc import Iterable


class AlwaysJSON(BaseContentNegotiation):
    """Choose the parser by Content-Type and always the first renderer."""

    def select_parser(self, request: Any, parsers: Iterable[Any]) -> Any:
        """Return the parser of the request's media type, or None (415)."""
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((p for p in parsers if p.media_type == media_type), None)

    def select_renderer(
        self,
        request: Any,  # noqa: ARG002 - DRF's signature
        renderers: Iterable[Any],
        format_suffix: Any = None,  # noqa: ARG002
    ) -> tuple[Any, str]:
        """Return the renderer and its media type."""
        first = next(iter(renderers))
        return first, first.media_type
