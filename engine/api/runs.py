"""`/runs`: start runs, follow them, steer them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import UUID  # noqa: TC003

from drf_spectacular.utils import extend_schema
from pydantic import Field
from rest_framework.response import Response
from rest_framework.views import APIView

from engine import runs, selectors, why
from engine.api import principal, requests, uploads
from engine.api.pages import ArtifactList, EventList, RunList, StepList, WhyList, page
from engine.api.parsers import StrictJSONParser
from engine.api.problems import Conflict, Problem
from engine.api.requests import Page, RowId, Word
from engine.api.submissions import RunRequest
from engine.errors import StateConflictError
from engine.representations import (
    ArtifactEntry,
    Cause,
    EventEntry,
    Progress,
    RunDetail,
    RunSummary,
    StepEntry,
    WhyEntry,
)
from engine.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.request import Request

    from engine.models import Run

READ = {"GET": "runs.read"}
#: A handler of a view.
Act = TypeVar("Act", bound="Callable[..., Response]")


class RunsQuery(Page):
    """Which runs."""

    before: UUID | None = Field(default=None, description="Only runs older than this one")
    state: RunState | None = None
    department: Word | None = None
    automation: Word | None = None


class AfterQuery(Page):
    """Which rows of a run."""

    after: RowId | None = Field(default=None, description="Only rows after this id")


class RunsView(APIView):
    """The collection of runs."""

    scopes: ClassVar[dict[str, str]] = {"GET": "runs.read", "POST": "runs.write"}
    parser_classes = [StrictJSONParser, uploads.MultiPart]

    @extend_schema(
        tags=["runs"],
        operation_id="listRuns",
        summary="List runs, newest first",
        parameters=requests.parameters(RunsQuery),
        responses={200: RunList, 400: Problem, 401: Problem, 403: Problem},
    )
    def get(self, request: Request) -> Response:
        """List runs."""
        wanted = requests.query(request, RunsQuery)
        found = selectors.runs(
            state=wanted.state,
            department=wanted.department,
            automation=wanted.automation,
            limit=wanted.limit,
            before=wanted.before,
        )
        entries = [RunSummary.of(run) for run in found]
        return page(request, entries, limit=wanted.limit, cursor="before")

    @extend_schema(
        tags=["runs"],
        operation_id="startRun",
        summary="Start a run",
        description=(
            "Durable once answered. 200 instead of 201 when `dedupe_key` named a run that exists. "
            "As multipart/form-data: `automation`, `input` (JSON), the other fields as text, and "
            "one file part for each input field that takes a file."
        ),
        request={"application/json": RunRequest, "multipart/form-data": uploads.FORM_SCHEMA},
        responses={
            201: RunDetail,
            200: RunDetail,
            400: Problem,
            401: Problem,
            403: Problem,
            413: Problem,
        },
    )
    def post(self, request: Request) -> Response:
        """Start a run."""
        requests.query(request, requests.Nothing)
        subject = principal.of(request).subject
        wanted, files = uploads.read(request, RunRequest)
        given = {**wanted.input, **uploads.store(files, wanted, created_by=subject)}
        submitted = runs.submit(
            automation=wanted.automation,
            input=given,
            trigger="api",
            created_by=subject,
            dedupe_key=wanted.dedupe_key,
            correlation_id=wanted.correlation_id or requests.request_id(request),
            priority=wanted.priority,
            tags=wanted.tags,
            deadline_at=wanted.deadline_at,
        )
        run = selectors.run(run_id=submitted.run_id)
        return Response(
            representation(run),
            status=201 if submitted.created else 200,
            headers={"Location": f"/runs/{run.id}"},
        )


class RunView(APIView):
    """One run."""

    scopes: ClassVar[dict[str, str]] = READ

    @extend_schema(
        tags=["runs"],
        operation_id="getRun",
        summary="A run with its progress, input and output",
        responses={200: RunDetail, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """Show a run."""
        requests.nothing(request)
        return Response(representation(_run(run_id)))


class StepsView(APIView):
    """The steps of a run."""

    scopes: ClassVar[dict[str, str]] = READ

    @extend_schema(
        tags=["runs"],
        operation_id="listRunSteps",
        summary="The steps of a run",
        parameters=requests.parameters(AfterQuery),
        responses={200: StepList, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """List the steps."""
        wanted = requests.query(request, AfterQuery)
        rows = selectors.steps(run_id=_run(run_id).id, limit=wanted.limit, after_id=wanted.after)
        return page(
            request, [StepEntry.of(row) for row in rows], limit=wanted.limit, cursor="after"
        )


class EventsView(APIView):
    """The history of a run."""

    scopes: ClassVar[dict[str, str]] = READ

    @extend_schema(
        tags=["runs"],
        operation_id="listRunEvents",
        summary="The history of a run, oldest first",
        parameters=requests.parameters(AfterQuery),
        responses={200: EventList, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """List the events."""
        wanted = requests.query(request, AfterQuery)
        rows = selectors.events(run_id=_run(run_id).id, limit=wanted.limit, after_id=wanted.after)
        return page(
            request, [EventEntry.of(row) for row in rows], limit=wanted.limit, cursor="after"
        )


class ArtifactsView(APIView):
    """The files of a run."""

    scopes: ClassVar[dict[str, str]] = READ

    @extend_schema(
        tags=["runs"],
        operation_id="listRunArtifacts",
        summary="The files of a run",
        responses={200: ArtifactList, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """List the files."""
        requests.nothing(request)
        rows = selectors.artifacts(run_id=_run(run_id).id)
        return page(request, [ArtifactEntry.of(row) for row in rows])


class WhyView(APIView):
    """Why a run is not further."""

    scopes: ClassVar[dict[str, str]] = READ

    @extend_schema(
        tags=["runs"],
        operation_id="whyRun",
        summary="Why each step that has not ended is where it is",
        responses={200: WhyList, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """List the reasons."""
        requests.nothing(request)
        found = why.explain(run_id=_run(run_id).id)
        run = Cause.of(found.run).model_dump(mode="json") if found.run else None
        return page(request, [WhyEntry.of(step) for step in found.steps], run=run)


class _SteerView(APIView):
    scopes: ClassVar[dict[str, str]] = {"POST": "runs.write"}
    door: ClassVar[str]

    def act(self, request: Request, run_id: str) -> Response:
        """Go through the door of the engine; a refusal shows the run as it is."""
        requests.nothing(request)
        identity = requests.uuid(run_id, what="run")
        try:
            getattr(runs, self.door)(run_id=identity, actor=principal.of(request).subject)
        except StateConflictError as exc:
            current = representation(selectors.run(run_id=identity))
            raise Conflict(exc.message, current) from exc
        return Response(representation(selectors.run(run_id=identity)))


def _steering(summary: str, operation: str) -> Callable[[Act], Act]:
    described: Callable[[Act], Act] = extend_schema(
        tags=["runs"],
        operation_id=operation,
        summary=summary,
        request=None,
        responses={200: RunDetail, 404: Problem, 409: Problem},
    )
    return described


class CancelView(_SteerView):
    """Cancel a run."""

    door = "cancel"

    @_steering("Cancel a run", "cancelRun")
    def post(self, request: Request, run_id: str) -> Response:
        """Cancel; what runs is asked to stop."""
        return self.act(request, run_id)


class PauseView(_SteerView):
    """Pause a run."""

    door = "pause"

    @_steering("Pause a run: what is being worked on ends, nothing new starts", "pauseRun")
    def post(self, request: Request, run_id: str) -> Response:
        """Pause."""
        return self.act(request, run_id)


class ResumeView(_SteerView):
    """Resume a run."""

    door = "resume"

    @_steering("Resume a paused run", "resumeRun")
    def post(self, request: Request, run_id: str) -> Response:
        """Resume."""
        return self.act(request, run_id)


def representation(run: Run) -> dict[str, Any]:
    """Return the JSON of a run with progress, input and output."""
    return RunDetail.of(
        run,
        input=run.input,
        progress=Progress.of(selectors.progress(run_id=run.id)),
        output=selectors.output(run_id=run.id) if run.state == RunState.SUCCEEDED else None,
    ).model_dump(mode="json")


def _run(text: str) -> Run:
    return selectors.run(run_id=requests.uuid(text, what="run"))
