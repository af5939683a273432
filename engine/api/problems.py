"""Errors as problem details (RFC 9457): every failure has a stable `code` and says what to mend."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404
from pydantic import BaseModel, Field
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from engine import sql
from engine.access.lockouts import LockedOutError
from engine.access.sealing import UnsealableError
from engine.api import throttles
from engine.errors import (
    EngineError,
    InputInvalidError,
    NotFoundError,
    StateConflictError,
    StepError,
    UnknownAutomationError,
)

MEDIA_TYPE = "application/problem+json"
#: What a client should wait before it asks again while the database is away.
RETRY_SECONDS = 2

#: What the domain refuses, by the status that says so; anything else is a 400.
_STATUSES: dict[type[EngineError], int] = {
    NotFoundError: 404,
    StateConflictError: 409,
    LockedOutError: 429,
}

log = structlog.get_logger(__name__)


class ProblemError(BaseModel):
    """One thing that is wrong, and where."""

    pointer: str = Field(description="JSON pointer into the body, or the query parameter's name")
    reason: str


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable; `detail` is for people."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: list[ProblemError] = []
    request_id: str = ""
    scope: str | None = Field(default=None, description="With 403: the scope that is missing")
    current: dict[str, Any] | None = Field(
        default=None, description="With 409: the thing as it is now"
    )


class RequestInvalid(exceptions.APIException):
    """Refuse a request whose parts are wrong; each problem is (pointer, reason)."""

    status_code = 400
    default_code = "request_invalid"

    def __init__(self, detail: str, errors: list[tuple[str, str]]) -> None:
        super().__init__(detail, code=self.default_code)
        self.errors = errors


class Conflict(exceptions.APIException):
    """Refuse an act that is not legal now; carries what the thing is now."""

    status_code = 409
    default_code = "state_conflict"

    def __init__(self, detail: str, current: dict[str, Any]) -> None:
        super().__init__(detail, code=self.default_code)
        self.current = current


def document(
    *,
    status: int,
    code: str,
    detail: str,
    request_id: str,
    errors: list[tuple[str, str]] | None = None,
    **members: Any,
) -> dict[str, Any]:
    """Return the JSON of a problem; `members` are extensions such as `scope` or `current`."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        errors=[ProblemError(pointer=p, reason=r) for p, r in errors or []],
        request_id=request_id,
        **members,
    )
    return problem.model_dump(exclude_none=True)


def handle(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Turn any error of a view into a problem (DRF's EXCEPTION_HANDLER)."""
    set_rollback()
    exc = throttles.counted(exc, context["request"])
    request_id = getattr(context["request"]._request, "request_id", "")  # noqa: SLF001
    headers: dict[str, str] = {}
    members: dict[str, Any] = {}
    errors: list[tuple[str, str]] = []
    if isinstance(exc, exceptions.APIException):
        status, code, detail = exc.status_code, _code(exc), str(exc.detail)
        errors = getattr(exc, "errors", [])
        members = {name: getattr(exc, name) for name in ("scope", "current") if hasattr(exc, name)}
        if challenge := getattr(exc, "auth_header", None):
            known = ', error="invalid_token"' if code.startswith("token_") else ""
            headers["WWW-Authenticate"] = f"{challenge}{known}"
        elif "scope" in members:
            headers["WWW-Authenticate"] = (
                f'Bearer realm="api", error="insufficient_scope", scope="{members["scope"]}"'
            )
    elif isinstance(exc, EngineError):
        status, code, detail, errors = _of_domain(exc)
    else:
        answer = _of_framework(exc)
        if answer is None:
            return None  # a real fault: Django logs it and answers through handler500
        status, code, detail = answer
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_SECONDS)
            log.warning("database_unavailable", error=type(exc).__name__)
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(int(wait))
    body = document(
        status=status, code=code, detail=detail, request_id=request_id, errors=errors, **members
    )
    return Response(body, status=status, headers=headers, content_type=MEDIA_TYPE)


def _code(exc: exceptions.APIException) -> str:
    found = exc.get_codes()
    return found if isinstance(found, str) else exc.default_code


def _of_domain(exc: EngineError) -> tuple[int, str, str, list[tuple[str, str]]]:
    if isinstance(exc, InputInvalidError):
        errors = [(_pointer(p["field"]), p["reason"]) for p in exc.problems]
        return 400, exc.code, exc.message, errors
    if isinstance(exc, UnknownAutomationError):
        return 400, exc.code, exc.message, [("/automation", exc.message)]
    for kind, status in _STATUSES.items():
        if isinstance(exc, kind):
            return status, exc.code, exc.message, []
    if isinstance(exc, UnsealableError):
        log.error("master_key_wrong", error=exc.message)
        return 503, exc.code, "This installation cannot read its own secrets; its log says why.", []
    if isinstance(exc, StepError) and exc.code == "artifact_too_large":
        return 413, exc.code, exc.message, []
    return 400, exc.code, exc.message, []


def _pointer(field: str) -> str:
    parts = [part.replace("~", "~0").replace("/", "~1") for part in field.split(".") if part]
    return "/" + "/".join(["input", *parts])


def _of_framework(exc: Exception) -> tuple[int, str, str] | None:
    if isinstance(exc, Http404):
        return 404, "not_found", "There is nothing at this address."
    if isinstance(exc, PermissionDenied):
        return 403, "permission_denied", "This is not allowed."
    if isinstance(exc, RequestDataTooBig):
        return 413, "body_too_large", "The body is too large."
    if isinstance(exc, SuspiciousOperation):
        return 400, "request_invalid", "The request is malformed."
    if isinstance(exc, sql.CONNECTION_ERRORS):
        return 503, "database_unavailable", "The database does not answer; try again shortly."
    return None
