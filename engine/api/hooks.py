"""`POST /hooks/{token}`: others start an automation; `/webhooks/incoming`: by which addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import structlog
from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import Field, StringConstraints
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import APIView

from engine.access.sealing import UnsealableError
from engine.api import permissions, principal, requests, submissions, throttles
from engine.api.changes import Change, no_default
from engine.api.pages import Listing, page
from engine.api.parsers import strict_json
from engine.api.problems import Conflict, Problem, RequestInvalid
from engine.api.requests import Page, RowId, Strict, Word
from engine.api.webhooks import FOUND, READ, REFUSALS, WRITE, valid
from engine.errors import InputInvalidError, NotFoundError, StateConflictError
from engine.webhooks import incoming, selectors
from engine.webhooks.representations import (
    HookAnswer,
    HookEntry,
    HookWithSecret,
    HookWithToken,
)

if TYPE_CHECKING:
    from rest_framework.request import Request

    from engine.models import IncomingHook

log = structlog.get_logger(__name__)

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Description = Annotated[Text, Field(max_length=incoming.MAX_DESCRIPTION_CHARACTERS)]
FieldName = Annotated[Text, Field(max_length=100)]
#: `signing.check_secret` for those who read the description: 24 to 64 bytes in base64, or none.
BASE64_FORM = (
    r"^(whsec_(([A-Za-z0-9+/]{4}){8,20}[A-Za-z0-9+/]{3}="
    r"|([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==)?))?$"
)
Secret = Annotated[Text, Field(max_length=200, json_schema_extra={"pattern": BASE64_FORM})]
#: Said of tokens that are nobody's, and of hooks that are disabled: the same to the letter.
NOWHERE = "There is nothing at this address."


class SignatureInvalid(APIException):
    """Refuse a call that is not signed as its hook asks."""

    status_code = 401
    default_code = "signature_invalid"
    auth_header = "StandardWebhooks"


class NotCheckable(APIException):
    """Put a caller off: its signature cannot be checked before an operator has mended something."""

    status_code = 503
    default_code = "hook_unavailable"
    default_detail = "The signature cannot be checked at present; try again later."
    wait = 60


class HookList(Listing[HookEntry]):
    """Incoming hooks, newest first."""


class HooksQuery(Page):
    """Which hooks."""

    before: RowId | None = Field(default=None, description="Only hooks older than this one")
    department: Word | None = None
    automation: Word | None = None


class HookRequest(Strict):
    """What calls of the new address start, and how."""

    automation: Word = Field(description="e.g. finance.cashflow_report")
    description: Description = ""
    signed: bool = Field(
        default=True, strict=True, description="Whether callers must sign (Standard Webhooks)"
    )
    secret: Secret = Field(
        default="", description="`whsec_…`, if the other side has made it; else one is made here"
    )
    input_field: FieldName = Field(
        default="",
        description="The input's field that takes the body; empty: the body is the input",
    )


class HookChange(Change):
    """What may be changed; what is left out stays as it is."""

    description: Description = Field(default="", json_schema_extra=no_default)
    input_field: FieldName = Field(default="", json_schema_extra=no_default)
    enabled: bool = Field(default=True, strict=True, json_schema_extra=no_default)


class SecretRequest(Strict):
    """Which secret callers sign with from now on."""

    secret: Secret = Field(
        default="", description="`whsec_…`, if the other side has made it; else one is made here"
    )


class HookView(APIView):
    """The address others call: the token in it is all the access they have."""

    authentication_classes = []
    permission_classes = []
    # Counted below: only what has proven to be the hook's counts for the hook. Else whoever knows
    # its address, or guesses, would use its rate up for those who may call.
    throttle_classes = []

    @extend_schema(
        tags=["webhooks"],
        operation_id="callHook",
        summary="Start what the hook starts: stored before it is answered",
        description=(
            "202 when the call has become a run, 200 when the same `webhook-id` had come before: "
            "the run is the same. Signed as Standard Webhooks, within five minutes, unless the "
            "hook was made unsigned. Unknown tokens are answered like disabled hooks: 404. "
            "Calls are counted for the hook (`hook`); refused ones for their address."
        ),
        auth=[],
        parameters=[
            OpenApiParameter(
                name=incoming.ID,
                location=OpenApiParameter.HEADER,
                description="The same for each try of one call: it starts one run",
            ),
            OpenApiParameter(name=incoming.TIMESTAMP, location=OpenApiParameter.HEADER),
            OpenApiParameter(name=incoming.SIGNATURE, location=OpenApiParameter.HEADER),
        ],
        request={"application/json": {}},
        responses={
            202: HookAnswer,
            200: HookAnswer,
            400: Problem,
            401: Problem,
            404: Problem,
            409: Problem,
            413: Problem,
            503: Problem,
        },
    )
    def post(self, request: Request, token: str) -> Response:
        """Start a run."""
        hook = incoming.of_token(token)
        if hook is None:
            throttles.count(request)
            raise NotFoundError(NOWHERE)
        body = request._request.body  # noqa: SLF001 - the signature is over the bytes as they came
        try:
            message_id = self._verified(hook, request, body)
        except APIException:
            throttles.count(request)
            raise
        throttles.count_for_hook(request, hook.pk)
        document = strict_json(body)
        try:
            submitted = incoming.start(
                hook,
                document=document,
                message_id=message_id,
                correlation_id=requests.request_id(request),
                traceparent=requests.traceparent(request),
            )
        except InputInvalidError as exc:
            raise _refusal(exc, prefix="/") from exc
        answer = HookAnswer(run_id=submitted.run_id, created=submitted.created)
        return Response(
            answer.model_dump(mode="json"),
            status=202 if submitted.created else 200,
            headers={"Location": f"/runs/{submitted.run_id}"},
        )

    @staticmethod
    def _verified(hook: IncomingHook, request: Request, body: bytes) -> str:
        """Return the call's id, when it is signed as the hook asks."""
        try:
            return incoming.verify(hook, body=body, headers=request.headers)
        except incoming.SignatureInvalidError as exc:
            raise SignatureInvalid(exc.message) from exc
        except UnsealableError as exc:
            log.error("hook_secret_unreadable", hook=hook.pk)  # noqa: TRY400 - no trace: it is clear
            raise NotCheckable from exc
        except InputInvalidError as exc:
            raise _refusal(exc, prefix="") from exc


class IncomingView(APIView):
    """The collection of incoming hooks."""

    scopes: ClassVar[dict[str, str]] = {"GET": READ, "POST": WRITE}
    by_department = True

    @extend_schema(
        tags=["webhooks"],
        operation_id="listHooks",
        summary="List incoming hooks, newest first",
        parameters=requests.parameters(HooksQuery),
        responses={200: HookList, **REFUSALS},
    )
    def get(self, request: Request) -> Response:
        """List hooks."""
        wanted = requests.query(request, HooksQuery)
        seen = permissions.reach(request, READ).only
        found = selectors.hooks(**wanted.model_dump(), departments=seen)
        return page(
            request, [HookEntry.of(row) for row in found], limit=wanted.limit, cursor="before"
        )

    @extend_schema(
        tags=["webhooks"],
        operation_id="createHook",
        summary="Add an address that starts an automation; it is shown this once",
        description="Needs `runs.write` as well: whoever calls the address starts runs.",
        request=HookRequest,
        responses={201: HookWithToken, **REFUSALS, 413: Problem},
    )
    def post(self, request: Request) -> Response:
        """Add a hook."""
        requests.query(request, requests.Nothing)
        wanted = requests.body(request.data, HookRequest)
        submissions.require_startable(request, wanted.automation, (WRITE, "runs.write"))
        by = principal.of(request).subject
        row, token, secret = valid(lambda: incoming.create(**wanted.model_dump(), actor=by))
        base = settings.PUBLIC_URL or request.build_absolute_uri("/")
        made = HookWithToken.made(row, token=token, secret=secret, base=base)
        place = f"/webhooks/incoming/{row.pk}"
        return Response(made.model_dump(mode="json"), status=201, headers={"Location": place})


class IncomingHookView(APIView):
    """One incoming hook."""

    scopes: ClassVar[dict[str, str]] = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}
    by_department = True

    @extend_schema(
        tags=["webhooks"],
        operation_id="getHook",
        summary="An incoming hook",
        responses={200: HookEntry, **FOUND},
    )
    def get(self, request: Request, hook_id: str) -> Response:
        """Show a hook."""
        requests.nothing(request)
        return _shown(_required(request, hook_id, READ))

    @extend_schema(
        tags=["webhooks"],
        operation_id="changeHook",
        summary="Change, enable or disable an incoming hook",
        request=HookChange,
        responses={200: HookEntry, **FOUND, 413: Problem},
    )
    def patch(self, request: Request, hook_id: str) -> Response:
        """Change a hook."""
        requests.query(request, requests.Nothing)
        row = _required(request, hook_id, WRITE)
        wanted = requests.body(request.data, HookChange)
        changes = wanted.model_dump(include=wanted.model_fields_set)
        by = principal.of(request).subject
        return _shown(valid(lambda: incoming.change(hook_id=row.pk, actor=by, **changes)))

    @extend_schema(
        tags=["webhooks"],
        operation_id="deleteHook",
        summary="Delete an incoming hook; the runs it started stay",
        responses={204: None, **FOUND},
    )
    def delete(self, request: Request, hook_id: str) -> Response:
        """Delete a hook."""
        requests.nothing(request)
        row = _required(request, hook_id, WRITE)
        incoming.remove(hook_id=row.pk, actor=principal.of(request).subject)
        return Response(status=204)


class RotateHookSecretView(APIView):
    """Another secret."""

    scopes: ClassVar[dict[str, str]] = {"POST": WRITE}
    by_department = True

    @extend_schema(
        tags=["webhooks"],
        operation_id="rotateHookSecret",
        summary="Give a hook another secret; the old one is accepted for 24 hours",
        request=SecretRequest,
        responses={200: HookWithSecret, **FOUND, 409: Problem, 413: Problem},
    )
    def post(self, request: Request, hook_id: str) -> Response:
        """Rotate the secret."""
        requests.query(request, requests.Nothing)
        row = _required(request, hook_id, WRITE)
        wanted = requests.body(request.data or {}, SecretRequest)
        by = principal.of(request).subject
        try:
            row, secret = valid(
                lambda: incoming.rotate_secret(hook_id=row.pk, actor=by, secret=wanted.secret)
            )
        except StateConflictError as exc:
            raise Conflict(exc.message, HookEntry.of(row).model_dump(mode="json")) from exc
        return Response(HookWithSecret.of(row, secret=secret).model_dump(mode="json"))


def _required(request: Request, text: str, scope: str) -> IncomingHook:
    number = requests.row_id(text, what="hook")
    row = selectors.hook(hook_id=number)
    permissions.require(request, scope, row.department, missing=f"There is no hook {number}")
    return row


def _refusal(exc: InputInvalidError, *, prefix: str) -> RequestInvalid:
    """Return the refusal with pointers into the body, not into the input it is mapped to."""
    errors = [
        (f"{prefix}{found['field'].replace('.', '/')}".rstrip("/"), found["reason"])
        for found in exc.problems
    ]
    return RequestInvalid(exc.message, errors)


def _shown(row: IncomingHook) -> Response:
    return Response(HookEntry.of(row).model_dump(mode="json"))
