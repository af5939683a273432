"""How the API describes itself: scopes, and every refusal a call may meet, with an example.

What a view names in `extend_schema` stands; what any call may be answered is added here, once.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema

from engine.api import examples
from engine.api.problems import MEDIA_TYPE, Problem

#: status → (code, detail, when): an example of each refusal.
REFUSALS: dict[str, tuple[str, str, str]] = {
    "400": ("request_invalid", "Field /priority: must be a number", "A part is wrong; `errors`"),
    "401": ("not_authenticated", "This needs a token: Authorization: Bearer <token>", "No token"),
    "403": ("scope_missing", "The token lacks the scope runs.write.", "The token lacks the scope"),
    "404": ("not_found", "There is no run 0199c0de-0000-7000-8000-000000000000.", "No such thing"),
    "406": ("not_acceptable", "This answers with text/event-stream", "Not what is accepted"),
    "409": ("state_conflict", "The run is succeeded; cannot cancel it", "Not in this state"),
    "413": ("body_too_large", "The body is too large.", "Larger than is taken"),
    "415": ("unsupported_media_type", 'Unsupported media type "text/plain".', "Not JSON"),
    "416": ("range_not_satisfiable", "The file has 5 bytes.", "The range begins behind the end"),
    "422": ("idempotency_key_reused", "This Idempotency-Key was used.", "Key of another request"),
    "429": ("throttled", "Too many requests; try again in 7 seconds.", "Too often; `Retry-After`"),
    "503": ("database_unavailable", "The database does not answer.", "Try again; `Retry-After`"),
}
_BODIED = {"POST", "PUT", "PATCH"}


class Schema(AutoSchema):
    """drf-spectacular's description of a view, made whole."""

    def get_auth(self) -> list[dict[str, Any]]:
        """Name the scope beside the scheme (OpenAPI 3.1 allows roles for any scheme)."""
        scopes: dict[str, str] = getattr(self.view, "scopes", {})
        needed = scopes.get(self.method)
        found: list[dict[str, Any]] = super().get_auth()
        return [dict.fromkeys(scheme, [needed] if needed else []) for scheme in found]

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> Any:
        found = super()._get_response_bodies(direction)
        if direction == "response":
            for status in self._refusals():
                if status not in found:
                    found[status] = self._get_response_for_code(Problem, status)
        return dict(sorted(found.items()))

    def _get_request_body(self, direction: Literal["request", "response"] = "request") -> Any:
        described: Any = super()._get_request_body  # the library says no types of it
        found = described(direction)
        if found:
            self._show(found["content"])
        return found

    def _show(self, content: dict[str, Any]) -> None:
        """Put the example of the form beside the schema of each body that has one."""
        known = examples.BY_FORM | getattr(self.view, "examples", {})
        for media_type, described in content.items():
            form = str(described["schema"].get("$ref", "")).rpartition("/")[2]
            call = (self.get_operation_id(), media_type)
            shown = known.get(form.removeprefix("Patched")) if form else examples.BY_CALL.get(call)
            if shown is not None:
                described["examples"] = {"example": {"value": shown}}

    def _refusals(self) -> list[str]:
        """Return the statuses that any call of this shape may be answered."""
        statuses = ["400", "429", "503"]
        if self.get_auth():
            statuses += ["401", "403"]
        if "{" in self.path:
            statuses += ["404"]
        if self.method in _BODIED:
            statuses += ["413", "415"]
        return statuses

    def _get_response_for_code(
        self,
        serializer: Any,
        status_code: str,
        media_types: list[str] | None = None,
        direction: Literal["request", "response"] = "response",
    ) -> Any:
        described: Any = super()._get_response_for_code  # the library says no types of it
        if serializer is not Problem:
            found = described(serializer, status_code, media_types, direction)
            self._show(found.get("content", {}))
            return found
        found = described(serializer, status_code, [MEDIA_TYPE], direction)
        code, detail, when = REFUSALS[status_code]
        example = {
            "type": "about:blank",
            "title": HTTPStatus(int(status_code)).phrase,
            "status": int(status_code),
            "code": code,
            "detail": detail,
            "errors": [],
            "request_id": "7f0c2b8e4a6d4f5f9d0c1b2a3e4f5a6b",
        }
        found["description"] = when
        found["content"][MEDIA_TYPE]["examples"] = {code: {"value": example}}
        return found
