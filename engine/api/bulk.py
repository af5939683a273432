"""Bulk forms: cancel runs, requeue and discard dead letters, chosen by a filter.

Without `apply` nothing is changed: the answer shows what would be acted on.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, Field
from rest_framework.response import Response
from rest_framework.views import APIView

from engine import bulk
from engine.api import permissions, principal, requests
from engine.api.filters import (  # noqa: TC001 - pydantic resolves annotations at run time
    CancelFilter,
    OpenLettersFilter,
)
from engine.api.problems import Problem
from engine.api.requests import WHOLE, Strict
from engine.representations import DeadLetterEntry, RunSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.request import Request

#: How many of those found are shown.
MOST_SHOWN = 50
DEFAULT_LIMIT = 200

Limit = Annotated[int, Field(strict=True, ge=1, le=bulk.MOST_AT_ONCE), WHOLE]


class _BulkRequest(Strict):
    apply: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="Do it; without it the answer is a preview"
    )
    limit: Limit = Field(default=DEFAULT_LIMIT, description="How many at most, newest first")


class BulkCancel(_BulkRequest):
    """Which runs to cancel."""

    filter: CancelFilter


class BulkDeadLetters(_BulkRequest):
    """Which open dead letters."""

    filter: OpenLettersFilter


class RefusedRun(BaseModel):
    """A run that could not be acted on."""

    id: UUID
    code: str
    detail: str


class RefusedDeadLetter(BaseModel):
    """A dead letter that could not be acted on."""

    id: int
    code: str
    detail: str


class _Outcome(BaseModel):
    applied: bool
    matched: int = Field(description="How many were found, up to the limit")
    more: bool = Field(description="More match: call again for the rest")
    as_of: datetime = Field(
        description="When it was looked; as `created_before` it keeps newer runs out"
    )


class BulkRuns(_Outcome):
    """What became of the runs."""

    results: list[RunSummary] = Field(description=f"The first {MOST_SHOWN} found, as they were")
    done: list[UUID] = Field(description="What was acted on; empty in a preview")
    refused: list[RefusedRun] = Field(description="What could not be acted on, and why")


class BulkLetters(_Outcome):
    """What became of the dead letters."""

    results: list[DeadLetterEntry] = Field(
        description=f"The first {MOST_SHOWN} found, as they were"
    )
    done: list[int] = Field(description="What was acted on; empty in a preview")
    refused: list[RefusedDeadLetter] = Field(description="What could not be acted on, and why")


Act = TypeVar("Act", bound="Callable[..., Response]")


def _described(
    tag: str, operation: str, summary: str, asked: type[Strict], answer: type[BaseModel]
) -> Callable[[Act], Act]:
    described: Callable[[Act], Act] = extend_schema(
        tags=[tag],
        operation_id=operation,
        summary=summary,
        description=(
            "Without `apply` nothing is changed and the answer shows what would be. Each is acted "
            "on by itself: one that refuses is told in `refused` and holds up none of the others."
        ),
        request=asked,
        responses={200: answer, 400: Problem, 401: Problem, 403: Problem},
    )
    return described


class CancelRunsView(APIView):
    """Cancel many runs."""

    scopes: ClassVar[dict[str, str]] = {"POST": "runs.write"}
    by_department = True

    @_described("runs", "cancelRuns", "Cancel the runs that match", BulkCancel, BulkRuns)
    def post(self, request: Request) -> Response:
        """Cancel, or show what would be cancelled."""
        requests.query(request, requests.Nothing)
        asked = requests.body(request.data, BulkCancel)
        looked = timezone.now()
        outcome = bulk.cancel(
            wanted=replace(
                asked.filter.wanted, departments=permissions.reach(request, "runs.write").only
            ),
            actor=principal.of(request).subject,
            apply=asked.apply,
            limit=asked.limit,
        )
        shown = [
            permissions.shown(request, RunSummary.of(run), run.department)
            for run in outcome.found[:MOST_SHOWN]
        ]
        return _answer(BulkRuns, outcome, shown, applied=asked.apply, as_of=looked)


class _DeadLettersView(APIView):
    scopes: ClassVar[dict[str, str]] = {"POST": "dead_letters.write"}
    by_department = True
    #: What the engine does; staticmethod, or it would be bound to the view.
    door: ClassVar[Callable[..., bulk.Outcome]]

    def act(self, request: Request) -> Response:
        """Act on the dead letters that match, or show them."""
        requests.query(request, requests.Nothing)
        asked = requests.body(request.data, BulkDeadLetters)
        looked = timezone.now()
        outcome = self.door(
            wanted={
                **asked.filter.named,
                "departments": permissions.reach(request, "dead_letters.write").only,
            },
            actor=principal.of(request).subject,
            apply=asked.apply,
            limit=asked.limit,
        )
        shown = [
            permissions.shown(request, DeadLetterEntry.of(row), row.department)
            for row in outcome.found[:MOST_SHOWN]
        ]
        return _answer(BulkLetters, outcome, shown, applied=asked.apply, as_of=looked)


class RequeueDeadLettersView(_DeadLettersView):
    """Try many dead steps again."""

    door = staticmethod(bulk.requeue)

    @_described(
        "dead letters",
        "requeueDeadLetters",
        "Try the open dead letters that match again",
        BulkDeadLetters,
        BulkLetters,
    )
    def post(self, request: Request) -> Response:
        """Requeue, or show what would be requeued."""
        return self.act(request)


class DiscardDeadLettersView(_DeadLettersView):
    """Give many dead steps up."""

    door = staticmethod(bulk.discard)

    @_described(
        "dead letters",
        "discardDeadLetters",
        "Give the open dead letters that match up",
        BulkDeadLetters,
        BulkLetters,
    )
    def post(self, request: Request) -> Response:
        """Discard, or show what would be discarded."""
        return self.act(request)


def _answer(
    kind: type[BulkRuns | BulkLetters],
    outcome: bulk.Outcome,
    shown: list[Any],
    *,
    applied: bool,
    as_of: datetime,
) -> Response:
    answer = kind.model_validate(
        {
            "applied": applied,
            "matched": len(outcome.found),
            "more": outcome.is_cut,
            "as_of": as_of,
            "results": shown,
            "done": outcome.done,
            "refused": [
                {"id": one.id, "code": one.code, "detail": one.message} for one in outcome.refused
            ],
        }
    )
    return Response(answer.model_dump(mode="json"))
