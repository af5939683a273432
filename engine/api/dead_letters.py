"""`/dead-letters`: steps that failed for good, and what an operator does with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from drf_spectacular.utils import extend_schema
from pydantic import Field
from rest_framework.response import Response
from rest_framework.views import APIView

from engine import dead_letter_selectors, dead_letters
from engine.api import permissions, principal, requests
from engine.api.filters import DeadLettersFilter
from engine.api.pages import DeadLetterList, page
from engine.api.problems import Conflict, Problem
from engine.api.requests import Page, RowId
from engine.errors import StateConflictError
from engine.representations import DeadLetterEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.request import Request

#: A handler of a view.
Act = TypeVar("Act", bound="Callable[..., Response]")


class DeadLettersQuery(DeadLettersFilter, Page):
    """Which dead letters."""

    before: RowId | None = Field(default=None, description="Only dead letters older than this one")


class DeadLettersView(APIView):
    """The collection of dead letters."""

    scopes: ClassVar[dict[str, str]] = {"GET": "dead_letters.read"}
    by_department = True

    @extend_schema(
        tags=["dead letters"],
        operation_id="listDeadLetters",
        summary="List dead letters, newest first",
        parameters=requests.parameters(DeadLettersQuery),
        responses={200: DeadLetterList, 400: Problem},
    )
    def get(self, request: Request) -> Response:
        """List dead letters."""
        wanted = requests.query(request, DeadLettersQuery)
        seen = permissions.reach(request, "dead_letters.read").only
        found = dead_letter_selectors.dead_letters(**wanted.model_dump(), departments=seen)
        entries = [
            permissions.shown(request, DeadLetterEntry.of(row), row.department) for row in found
        ]
        return page(request, entries, limit=wanted.limit, cursor="before")


class DeadLetterView(APIView):
    """One dead letter."""

    scopes: ClassVar[dict[str, str]] = {"GET": "dead_letters.read"}
    by_department = True

    @extend_schema(
        tags=["dead letters"],
        operation_id="getDeadLetter",
        summary="A dead letter",
        responses={200: DeadLetterEntry, 404: Problem},
    )
    def get(self, request: Request, dead_letter_id: str) -> Response:
        """Show a dead letter."""
        requests.nothing(request)
        identity = _required(request, dead_letter_id, "dead_letters.read")
        return Response(_shown(request, identity))


class _ResolveView(APIView):
    scopes: ClassVar[dict[str, str]] = {"POST": "dead_letters.write"}
    by_department = True
    door: ClassVar[str]

    def act(self, request: Request, dead_letter_id: str) -> Response:
        """Go through the door of the engine; a refusal shows the dead letter as it is."""
        requests.nothing(request)
        identity = _required(request, dead_letter_id, "dead_letters.write")
        door = getattr(dead_letters, self.door)
        try:
            door(dead_letter_id=identity, actor=principal.of(request).subject)
        except StateConflictError as exc:
            raise Conflict(exc.message, _shown(request, identity)) from exc
        return Response(_shown(request, identity))


def _resolving(summary: str, operation: str) -> Callable[[Act], Act]:
    described: Callable[[Act], Act] = extend_schema(
        tags=["dead letters"],
        operation_id=operation,
        summary=summary,
        request=None,
        responses={200: DeadLetterEntry, 404: Problem, 409: Problem},
    )
    return described


class RequeueView(_ResolveView):
    """Try a dead step again."""

    door = "requeue"

    @_resolving("Try the dead step again with fresh attempts; its run goes on", "requeueDeadLetter")
    def post(self, request: Request, dead_letter_id: str) -> Response:
        """Requeue."""
        return self.act(request, dead_letter_id)


class DiscardView(_ResolveView):
    """Give a dead step up."""

    door = "discard"

    @_resolving("Give the step up; a run it blocks ends as failed", "discardDeadLetter")
    def post(self, request: Request, dead_letter_id: str) -> Response:
        """Discard."""
        return self.act(request, dead_letter_id)


def _required(request: Request, text: str, scope: str) -> int:
    """Return the id of the path, if the caller holds the scope in the department it is of."""
    identity = requests.row_id(text, what="dead letter")
    row = dead_letter_selectors.dead_letter(dead_letter_id=identity)
    missing = f"There is no dead letter {identity}"
    permissions.require(request, scope, row.department, missing=missing)
    return identity


def _shown(request: Request, identity: int) -> dict[str, Any]:
    row = dead_letter_selectors.dead_letter(dead_letter_id=identity)
    form = permissions.shown(request, DeadLetterEntry.of(row), row.department)
    return form.model_dump(mode="json")
