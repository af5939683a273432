"""`/runs`: start runs, follow them, steer them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar
from uuid import UUID  # noqa: TC003

from django.db import transaction
from drf_spectacular.utils import extend_schema
from pydantic import Field, model_validator
from rest_framework.response import Response
from rest_framework.views import APIView

from engine import (
    amendments,
    artifacts,
    dead_letters,
    input_files,
    run_selectors,
    runs,
    selectors,
    why,
)
from engine.api import idempotency, permissions, principal, requests, submissions, uploads
from engine.api.filters import RunFilter
from engine.api.pages import ArtifactList, EventList, RunList, StepList, WhyList, address, page
from engine.api.parsers import StrictJSONParser
from engine.api.problems import Conflict, Problem
from engine.api.requests import Page, RowId
from engine.api.submissions import RunChange, RunRequest
from engine.audit import trail
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
from engine.streaming import horizon

if TYPE_CHECKING:
    from rest_framework.request import Request

    from engine.contracts import ArtifactRef
    from engine.models import Run

READ = {"GET": "runs.read"}
#: What counting may cost: an exact number of a million would cost a second.
MOST_COUNTED = 1000
#: A handler of a view.
Act = TypeVar("Act", bound=Callable[..., Response])


class RunsQuery(RunFilter, Page):
    """Which runs."""

    before: UUID | None = Field(default=None, description="Only runs older than this one")
    after: UUID | None = Field(default=None, description="Only the runs next newer than this one")
    count: bool = Field(default=False, description=f"Count them too, up to {MOST_COUNTED:,}")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.before and self.after:
            raise ValueError("`before` and `after` are two pages: give one")
        return self


class AfterQuery(Page):
    """Which rows of a run."""

    after: RowId | None = Field(default=None, description="Only rows after this id")


#: What the audit trail says of a request.
AUDITED = {"automation", "dedupe_key", "window", "until_terminal", "priority", "tags"}


class FilesQuery(Page):
    """Which files of a run."""

    limit: int = Field(
        default=requests.MAX_LIMIT, ge=1, le=requests.MAX_LIMIT, description="How many at most"
    )
    before: UUID | None = Field(default=None, description="Only files older than this one")


class EventsQuery(AfterQuery):
    """Which events of a run."""

    settled: Annotated[int, Field(ge=0, le=requests.BIGINT_MAX)] | None = Field(
        default=None, description="As `next` and `follow` give it; no part of a filter"
    )


class RunsView(APIView):
    """The collection of runs."""

    scopes: ClassVar[dict[str, str]] = {"GET": "runs.read", "POST": "runs.write"}
    by_department = True
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
        asked = requests.query(request, RunsQuery)
        seen = permissions.reach(request, "runs.read").only
        wanted = replace(asked.wanted, departments=seen)
        found = run_selectors.runs(
            # One more upward: whether there is a page before that one.
            limit=asked.limit + bool(asked.after),
            wanted=wanted,
            before=asked.before,
            after=asked.after,
        )
        is_first = asked.before is None and len(found) <= asked.limit
        shown = found[-asked.limit :]
        more: dict[str, Any] = {"previous": None}
        if shown and not is_first:
            more["previous"] = address(request, before=None, after=shown[0].id)
        if asked.count:
            number = run_selectors.count(wanted=wanted, at_most=MOST_COUNTED + 1)
            more |= {
                "count": min(number, MOST_COUNTED),
                "count_is_exact": number <= MOST_COUNTED,
            }
        answer = page(
            request,
            [permissions.shown(request, RunSummary.of(run), run.department) for run in shown],
            **more,
        )
        if shown and (asked.after or len(shown) == asked.limit):
            answer.data["next"] = address(request, after=None, before=shown[-1].id)
        return answer

    @extend_schema(
        tags=["runs"],
        operation_id="startRun",
        summary="Start a run",
        description=(
            "Durable once answered. 200 instead of 201 when `dedupe_key` named a run that exists. "
            "As multipart/form-data: `automation`, `input` (JSON), the other fields as text, and "
            "one file part for each input field that takes a file."
        ),
        parameters=[idempotency.PARAMETER],
        request={"application/json": RunRequest, "multipart/form-data": uploads.FORM_SCHEMA},
        responses={
            201: RunDetail,
            200: RunDetail,
            400: Problem,
            401: Problem,
            403: Problem,
            409: Problem,
            413: Problem,
            422: Problem,
        },
    )
    def post(self, request: Request) -> Response:
        """Start a run."""
        requests.query(request, requests.Nothing)
        wanted, files = uploads.read(request, RunRequest)
        wanted.require_sound_key()
        submissions.require_startable(request, wanted.automation)
        refs = uploads.put(files, wanted)
        asked = wanted.fingerprinted | {
            "files": {name: ref.sha256 for name, ref in refs.items()},
        }
        return idempotency.once(
            request,
            asked=asked,
            act=lambda: self._start(request, wanted, refs),
            again=partial(self._again, request),
        )

    @staticmethod
    def _again(request: Request, stored: Any) -> Any:
        """Return the answer that was given, as the caller may see it now."""
        form = RunDetail.model_validate(stored)
        return permissions.shown(request, form, form.department).model_dump(mode="json")

    @staticmethod
    def _start(request: Request, wanted: RunRequest, refs: dict[str, ArtifactRef]) -> Response:
        wanted.require_ahead()
        caller = principal.of(request)
        subject = caller.subject
        # What came with the call is the caller's; what the call names by its hash may be others'.
        input_files.require_readable(wanted.input, reader=caller.policy, uploader=subject)
        for ref in refs.values():
            artifacts.record(ref, created_by=subject)
        given = wanted.input | {name: ref.model_dump(mode="json") for name, ref in refs.items()}
        with transaction.atomic():
            submitted = runs.submit(
                automation=wanted.automation,
                input=given,
                trigger="api",
                created_by=subject,
                dedupe_key=wanted.dedupe_key,
                window=wanted.window,
                until_terminal=wanted.until_terminal,
                correlation_id=wanted.correlation_id or requests.request_id(request),
                traceparent=requests.traceparent(request),
                priority=wanted.priority,
                tags=wanted.tags,
                deadline_at=wanted.deadline_at,
            )
            after = wanted.model_dump(include=AUDITED - wanted.unsaid)
            after["created"] = submitted.created
            trail.record("run.submit", kind="run", id=submitted.run_id, actor=subject, after=after)
        run = selectors.run(run_id=submitted.run_id)
        return Response(
            representation(request, run),
            status=201 if submitted.created else 200,
            headers={"Location": f"/runs/{run.id}"},
        )


class RunView(APIView):
    """One run."""

    scopes: ClassVar[dict[str, str]] = READ | {"PATCH": "runs.write"}
    by_department = True

    @extend_schema(
        tags=["runs"],
        operation_id="getRun",
        summary="A run with its progress, input and output",
        responses={200: RunDetail, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """Show a run."""
        requests.nothing(request)
        return Response(representation(request, _run(request, run_id)))

    @extend_schema(
        tags=["runs"],
        operation_id="changeRun",
        summary="Change tags, priority or deadline of a run that has not ended",
        request=RunChange,
        responses={200: RunDetail, 400: Problem, 404: Problem, 409: Problem},
    )
    def patch(self, request: Request, run_id: str) -> Response:
        """Change a run."""
        requests.query(request, requests.Nothing)
        identity = _run(request, run_id, "runs.write").id
        changes = requests.body(request.data, RunChange).changes
        return _steered(request, identity, partial(amendments.amend, changes=changes))


class StepsView(APIView):
    """The steps of a run."""

    scopes: ClassVar[dict[str, str]] = READ
    by_department = True

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
        run = _run(request, run_id)
        rows = selectors.steps(run_id=run.id, limit=wanted.limit, after_id=wanted.after)
        entries = [permissions.shown(request, StepEntry.of(row), run.department) for row in rows]
        return page(request, entries, limit=wanted.limit, cursor="after")


class EventsView(APIView):
    """The history of a run."""

    scopes: ClassVar[dict[str, str]] = READ
    by_department = True

    @extend_schema(
        tags=["runs"],
        operation_id="listRunEvents",
        summary="The history of a run, oldest first",
        description=(
            "To follow a run by asking again and again, ask `next` while there is one, then "
            "`follow`, and so on. An event has its id before it can be seen, so one with a lower "
            "id may come after one with a higher: who went on with the last id as `after` would "
            "miss it. `follow` begins where nothing can come any more. `GET /runs/{run_id}/stream` "
            "tells the same without asking, each event once."
        ),
        parameters=requests.parameters(EventsQuery),
        responses={200: EventList, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """List the events."""
        wanted = requests.query(request, EventsQuery)
        run = _run(request, run_id)
        # Before the rows are read: what is final then is among them.
        final = max(horizon.settled() or 0, wanted.after or 0)
        rows = selectors.events(run_id=run.id, limit=wanted.limit, after_id=wanted.after)
        entries = [permissions.shown(request, EventEntry.of(row), run.department) for row in rows]
        answer = page(request, entries, limit=wanted.limit, cursor="after")
        # A page may end behind what is final; the pages after it carry that on to `follow`.
        settled = final if wanted.settled is None else min(wanted.settled, final)
        if answer.data["next"] is None:
            answer.data["follow"] = address(request, after=settled or None, settled=None)
        else:
            is_final = settled >= entries[-1].id
            last = {"after": entries[-1].id, "settled": None if is_final else settled}
            answer.data |= {"next": address(request, **last), "follow": None}
        return answer


class ArtifactsView(APIView):
    """The files of a run."""

    scopes: ClassVar[dict[str, str]] = READ
    by_department = True

    @extend_schema(
        tags=["runs"],
        operation_id="listRunArtifacts",
        summary="The files of a run, newest first",
        description=(
            "A page at a time. Of a run that goes on a file may come to stand on a page that was "
            "read already: ask again when the run has ended."
        ),
        parameters=requests.parameters(FilesQuery),
        responses={200: ArtifactList, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """List the files."""
        wanted = requests.query(request, FilesQuery)
        run = _run(request, run_id)
        rows = selectors.artifacts(run_id=run.id, limit=wanted.limit, before=wanted.before)
        shown = [permissions.shown(request, ArtifactEntry.of(row), run.department) for row in rows]
        return page(request, shown, limit=wanted.limit, cursor="before")


class WhyView(APIView):
    """Why a run is not further."""

    scopes: ClassVar[dict[str, str]] = READ
    by_department = True

    @extend_schema(
        tags=["runs"],
        operation_id="whyRun",
        summary="Why each step that has not ended is where it is",
        responses={200: WhyList, 404: Problem},
    )
    def get(self, request: Request, run_id: str) -> Response:
        """List the reasons."""
        requests.nothing(request)
        found = why.explain(run_id=_run(request, run_id).id)
        run = Cause.of(found.run).model_dump(mode="json") if found.run else None
        return page(request, [WhyEntry.of(step) for step in found.steps], run=run)


class _SteerView(APIView):
    scopes: ClassVar[dict[str, str]] = {"POST": "runs.write"}
    by_department = True
    #: What the engine does; staticmethod, or it would be bound to the view.
    door: ClassVar[Callable[..., object]]

    def act(self, request: Request, run_id: str) -> Response:
        """Go through the door of the engine; a refusal shows the run as it is."""
        requests.nothing(request)
        return _steered(request, _run(request, run_id, "runs.write").id, self.door)


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

    door = staticmethod(runs.cancel)

    @_steering("Cancel a run", "cancelRun")
    def post(self, request: Request, run_id: str) -> Response:
        """Cancel; what runs is asked to stop."""
        return self.act(request, run_id)


class PauseView(_SteerView):
    """Pause a run."""

    door = staticmethod(runs.pause)

    @_steering("Pause a run: what is being worked on ends, nothing new starts", "pauseRun")
    def post(self, request: Request, run_id: str) -> Response:
        """Pause."""
        return self.act(request, run_id)


class ResumeView(_SteerView):
    """Resume a run."""

    door = staticmethod(runs.resume)

    @_steering("Resume a paused run", "resumeRun")
    def post(self, request: Request, run_id: str) -> Response:
        """Resume."""
        return self.act(request, run_id)


class RetryView(_SteerView):
    """Retry a run."""

    door = staticmethod(dead_letters.retry_run)

    @_steering("Try every dead step of a run again; what has succeeded is kept", "retryRun")
    def post(self, request: Request, run_id: str) -> Response:
        """Retry."""
        return self.act(request, run_id)


def _steered(request: Request, run_id: UUID, door: Callable[..., object]) -> Response:
    try:
        door(run_id=run_id, actor=principal.of(request).subject)
    except StateConflictError as exc:
        current = representation(request, selectors.run(run_id=run_id))
        raise Conflict(exc.message, current) from exc
    return Response(representation(request, selectors.run(run_id=run_id)))


def representation(request: Request, run: Run) -> dict[str, Any]:
    """Return the JSON of a run with progress, input and output, as the caller may see it."""
    form = RunDetail.of(
        run,
        input=run.input,
        progress=Progress.of(selectors.progress(run_id=run.id)),
        output=selectors.output_of(run),
    )
    return permissions.shown(request, form, run.department).model_dump(mode="json")


def _run(request: Request, text: str, scope: str = "runs.read") -> Run:
    """Return the run of the path, if the caller holds the scope in its department."""
    run = selectors.run(run_id=requests.uuid(text, what="run"))
    permissions.require(request, scope, run.department, missing=f"There is no run {run.id}")
    return run
