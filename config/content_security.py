"""Content Security Policy: which one an answer carries, and why it says what it says.

Nothing here is allowed to everybody; each face gets what it cannot work without, and a test in a
real browser takes each allowance away and sees the page break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

Policy = dict[str, Any]

#: JSON and files: nothing in them may load, act or be framed, should a browser ever show one.
API: Policy = {"default-src": [NONE], "frame-ancestors": [NONE], "sandbox": True}
#: Pages: what they need comes from here, they send forms and calls here, and stand in no frame.
_PAGE: Policy = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "connect-src": [SELF],
    "font-src": [SELF],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
    "img-src": [SELF],
    "script-src": [SELF],
    "style-src": [SELF],
}
#: `/docs`: Swagger UI draws its icons from `data:` addresses.
DOCS: Policy = _PAGE | {"img-src": [SELF, "data:"]}
#: The admin's theme (unfold): Alpine.js makes functions of the attributes it finds in the page
#: (`unsafe-eval`); colours are a style element, widths style attributes (`unsafe-inline`, styles).
#: No script stands in a page: one that gets injected does not run.
ADMIN: Policy = _PAGE | {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
}


class ContentSecurity(CSPMiddleware):
    """Add the policy of the face an answer belongs to; a view's own policy stands."""

    def get_policy_parts(
        self,
        request: HttpRequest,
        response: HttpResponseBase,  # noqa: ARG002 - django-csp's signature
        report_only: bool = False,  # noqa: FBT001, FBT002 - same
    ) -> PolicyParts:
        """Return the policy by the request's path."""
        return PolicyParts(config=None if report_only else _of(request.path_info))


def _of(path: str) -> Policy:
    if path.startswith("/admin/"):
        return ADMIN
    return DOCS if path == "/docs" else API
