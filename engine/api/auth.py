"""`/auth`: tokens for users, and what a token says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from django.conf import settings
from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.json_schema import SkipJsonSchema  # noqa: TC002 - models resolve annotations
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.response import Response
from rest_framework.views import APIView

from engine.access import bearers, people, revocations, sign_ins, tokens
from engine.api import principal, requests
from engine.api.authentication import BearerAuthentication
from engine.api.permissions import ScopeMissing
from engine.api.problems import Problem
from engine.api.requests import Strict
from engine.audit import trail

if TYPE_CHECKING:
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request

Secret = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]


Name = Annotated[str, StringConstraints(min_length=1, max_length=150, pattern=r"^[^\x00]*$")]


class Credentials(Strict):
    """A user's name and password."""

    username: Name
    password: Secret


class RefreshRequest(Strict):
    """A refresh token."""

    refresh: Secret


class RevokeRequest(Strict):
    """A token, or, for holders of `admin.*`, the id of one or the subject of many."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    token: Secret | SkipJsonSchema[None] = Field(
        default=None, description="Access or refresh; it proves itself"
    )
    jti: Name | SkipJsonSchema[None] = Field(default=None, description="The token of this id")
    subject: Name | SkipJsonSchema[None] = Field(
        default=None, description="Every token of this subject that was minted until now"
    )

    @model_validator(mode="after")
    def _one(self) -> RevokeRequest:
        given = [getattr(self, name) for name in self.model_fields_set]
        if len(given) != 1 or given[0] is None:
            raise ValueError("exactly one of token, jti and subject is needed")
        return self


class Revoked(BaseModel):
    """How many were good until now: registered tokens of machines, and sign-ins of users."""

    tokens: int
    sign_ins: int


class AccessToken(BaseModel):
    """A token for `Authorization: Bearer`."""

    access: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int
    scopes: list[str]


class TokenPair(AccessToken):
    """An access token, and the token that gets the next one."""

    refresh: str


class Me(BaseModel):
    """Who a token speaks for, what it may do, until when."""

    subject: str
    scopes: list[str]
    expires_at: datetime


class _OpenView(APIView):
    # The header is still named in the 401 of a wrong password; its token is not asked for.
    permission_classes = []

    def perform_authentication(self, request: Request) -> None:
        """Leave a stale header alone: who signs in need not be signed in."""

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Return what names the challenge of a 401."""
        return [BearerAuthentication()]


class TokenView(_OpenView):
    """Sign in."""

    @extend_schema(
        tags=["access"],
        operation_id="signIn",
        summary="Get tokens for a user",
        auth=[],
        request=Credentials,
        responses={200: TokenPair, 400: Problem, 401: Problem, 429: Problem},
    )
    def post(self, request: Request) -> Response:
        """Exchange name and password for tokens."""
        requests.query(request, requests.Nothing)
        given = requests.body(request.data, Credentials)
        user = people.sign_in(
            request._request,  # noqa: SLF001 - Django's own request
            username=given.username,
            password=given.password,
        )
        people.note_sign_in(given.username, user)
        if user is None:
            raise AuthenticationFailed("Name or password is wrong.", code="credentials_invalid")
        try:
            pair = sign_ins.begin(user)
        except tokens.TokenInvalidError as exc:
            raise AuthenticationFailed(exc.message, code="credentials_invalid") from None
        return _given(pair)


#: Refusals of refresh tokens that are ours.
_ONCE_GOOD = (tokens.TokenExpiredError, tokens.TokenRevokedError, sign_ins.TokenUsedError)


class RefreshView(_OpenView):
    """Go on being signed in."""

    @extend_schema(
        tags=["access"],
        operation_id="refreshToken",
        summary="Get the next tokens for a refresh token",
        description=(
            "The refresh token is worth nothing afterwards. One that comes back (401 "
            "`token_revoked`) was copied: the whole sign-in has ended. Of two requests at the same "
            "time one gets tokens, the other 401 `token_used`."
        ),
        auth=[],
        request=RefreshRequest,
        responses={200: TokenPair, 400: Problem, 401: Problem, 429: Problem},
    )
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for the next two, with the user's scopes of now."""
        came_at = datetime.now(UTC)
        requests.query(request, requests.Nothing)
        given = requests.body(request.data, RefreshRequest)
        try:
            return _given(sign_ins.exchange(given.refresh, came_at=came_at))
        except tokens.TokenInvalidError as exc:
            # Not of what nobody here has signed: anybody could fill the trail with it.
            if isinstance(exc, _ONCE_GOOD):
                trail.record("auth.refresh", kind="user", id="", outcome="refused")
            raise AuthenticationFailed(exc.message, code=exc.code) from None


def _given(pair: sign_ins.Pair) -> Response:
    answer = TokenPair(
        access=pair.access,
        refresh=pair.refresh,
        expires_in=settings.ACCESS_TOKEN_SECONDS,
        scopes=pair.scopes,
    )
    return Response(answer.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


#: With a token or without; spectacular takes these as they stand, its types know names only.
_OPTIONAL: Any = [{}, {"bearer": []}]


class RevokeView(_OpenView):
    """End tokens before they expire."""

    @extend_schema(
        tags=["access"],
        operation_id="revokeToken",
        summary="Revoke a token, or sign out",
        description=(
            "Effective within a second in every process. Whoever has a token may revoke it; of a "
            "user's, access or refresh, the whole sign-in ends. By `jti` or `subject` it needs "
            "`admin.*`. A token that has expired or was revoked before is answered alike."
        ),
        auth=_OPTIONAL,
        request=RevokeRequest,
        responses={200: Revoked, 400: Problem, 401: Problem, 403: Problem, 429: Problem},
    )
    def post(self, request: Request) -> Response:
        """Revoke what is named."""
        requests.query(request, requests.Nothing)
        given = requests.body(request.data, RevokeRequest)
        done = _revoked(given.token) if given.token is not None else _named(request, given)
        return Response(Revoked(tokens=done.tokens, sign_ins=done.sign_ins).model_dump())


def _revoked(token: str) -> revocations.Revoked:
    try:
        claims = bearers.verified(token, kind=None)
    except (tokens.TokenExpiredError, tokens.TokenRevokedError):
        return revocations.Revoked()
    except tokens.TokenInvalidError as exc:
        # Not 200, as RFC 7009 has it: who pastes half a token must not think it is revoked.
        raise AuthenticationFailed(exc.message, code=exc.code) from None
    return revocations.revoke(claims, by=claims.subject)


def _named(request: Request, given: RevokeRequest) -> revocations.Revoked:
    caller = principal.of(request)
    if not caller.policy.allows("admin.tokens"):
        raise ScopeMissing("admin.*")
    if given.jti is not None:
        return revocations.revoke_token(given.jti, by=caller.subject)
    return revocations.revoke_subject(str(given.subject), by=caller.subject)


class MeView(APIView):
    """What the token says."""

    @extend_schema(
        tags=["access"],
        operation_id="whoAmI",
        summary="Subject and scopes of the token",
        responses={200: Me, 401: Problem},
    )
    def get(self, request: Request) -> Response:
        """Show subject, scopes and expiry."""
        requests.nothing(request)
        claims = principal.of(request).claims
        me = Me(
            subject=claims.subject,
            scopes=list(claims.scopes),
            expires_at=datetime.fromtimestamp(claims.expires_at, UTC),
        )
        return Response(me.model_dump(mode="json"))
