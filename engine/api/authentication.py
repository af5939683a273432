"""`Authorization: Bearer <JWT>`: the only way into the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed

from engine.access import bearers, tokens
from engine.api.principal import Principal
from engine.audit import origin

if TYPE_CHECKING:
    from rest_framework.request import Request

_PARTS = 2


class BearerAuthentication(BaseAuthentication):
    """Read the token of the header; say in `WWW-Authenticate` what is wanted."""

    def authenticate(self, request: Request) -> tuple[Principal, str] | None:
        """Return the principal, None without a token; raise for one that is not valid."""
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != b"bearer":
            return None
        if len(parts) != _PARTS:
            raise AuthenticationFailed(
                "The header must read: Authorization: Bearer <token>", code="token_invalid"
            )
        try:
            token = parts[1].decode("ascii")
            claims = bearers.verified(token)
        except UnicodeDecodeError:
            raise AuthenticationFailed(
                "The token is not valid here.", code="token_invalid"
            ) from None
        except tokens.TokenInvalidError as exc:
            raise AuthenticationFailed(exc.message, code=exc.code) from None
        origin.identify(claims.subject)
        return Principal(claims), token

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """Return the challenge of a 401."""
        return 'Bearer realm="api"'


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describe the header in `/openapi.json`."""

    target_class = "engine.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        """Return the OpenAPI security scheme."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
