"""`/runs/{id}/stream`, and what every stream has in common: who may listen, and for how long."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from pydantic import Field
from rest_framework import exceptions
from rest_framework.views import APIView

from engine import selectors
from engine.api import permissions, principal, requests
from engine.api.problems import Problem
from engine.api.requests import Strict
from engine.api.runs import representation
from engine.errors import EngineError
from engine.streaming.entries import Topic
from engine.streaming.feed import Feed, Refusal
from engine.streaming.seats import FullError, seats

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http.response import HttpResponseBase
    from rest_framework.request import Request

MEDIA_TYPE = "text/event-stream"
HEADERS = {
    "Cache-Control": "no-store",
    # nginx would keep events back until its buffer is full.
    "X-Accel-Buffering": "no",
}
#: What a client is told to wait when there is no seat, in seconds.
FULL_RETRY_SECONDS = 30
#: No id of an event is longer.
ID_DIGITS = 19

ABOUT = (
    "Server-Sent Events. The first event is `snapshot`; what happens after it follows under the "
    "names that the history has (`run.started`, `step.succeeded`, …), each with its `id`. Ids "
    "rise. Send the last one as `Last-Event-ID` (browsers do) to go on after it, without a gap and "
    "without a double, at whatever process; an id that is unknown or too old begins with a "
    "snapshot again. A comment comes every 15 seconds. `closed` says why a stream ends early, with "
    "a stable `code`. {ending} A snapshot may already show what the next events tell."
)
EXAMPLE = (
    'id: 4711\nevent: snapshot\ndata: {"id": "0190…", "state": "running", …}\n\n'
    'id: 4713\nevent: step.succeeded\ndata: {"id": 4713, "kind": "step.succeeded", …}\n\n'
    ": heartbeat\n\n"
)

LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID", str, OpenApiParameter.HEADER, description="Go on after this event"
)
ANSWERS: dict[Any, Any] = {
    (200, MEDIA_TYPE): str,
    400: Problem,
    401: Problem,
    403: Problem,
    404: Problem,
    406: Problem,
    429: Problem,
    503: Problem,
}


class StreamQuery(Strict):
    """Where to go on."""

    last_event_id: str | None = Field(
        default=None,
        max_length=100,
        description="As the header `Last-Event-ID`, for clients that cannot send it",
    )


class NotAcceptable(exceptions.APIException):
    """Refuse a client that does not take a stream."""

    status_code = 406
    default_code = "not_acceptable"
    default_detail = f"This answers with {MEDIA_TYPE}; send Accept: {MEDIA_TYPE}"


class NoSeat(exceptions.APIException):
    """Refuse a stream: too many are open."""

    default_code = "too_many_streams"
    wait = FULL_RETRY_SECONDS

    def __init__(self, full: FullError) -> None:
        # The process' own limit is nobody's fault; the subject's is the subject's.
        self.status_code = 429 if full.of_subject else 503
        whose = "of this subject" if full.of_subject else "at this process"
        super().__init__(
            f"{full.limit} streams {whose} are open, which is the most; close one, or try again.",
            code=self.default_code,
        )


class StreamView(APIView):
    """Judge a listener as any other request, and go on judging while the stream is open."""

    by_department = True

    def listen(
        self,
        request: Request,
        topic: Topic,
        *,
        department: str,
        admit: Callable[[Request], object],
        show: Callable[[], dict[str, Any]],
    ) -> HttpResponseBase:
        """Return the stream of something of that department.

        admit: raises for who may not listen; asked now, and again while the stream is open.
        show: what the first event carries.
        """
        admit(request)
        asked = requests.query(request, StreamQuery)
        if not request._request.accepts(MEDIA_TYPE):  # noqa: SLF001 - Django's own request
            raise NotAcceptable
        if request.method == "HEAD":
            return HttpResponse(content_type=MEDIA_TYPE, headers=HEADERS)
        try:
            seat = seats.take(
                subject=principal.of(request).subject,
                of_process=settings.STREAMS_PER_PROCESS,
                of_subject=settings.STREAMS_PER_SUBJECT,
            )
        except FullError as exc:
            raise NoSeat(exc) from None
        feed = Feed(
            topic,
            show=show,
            judge=lambda: self._refusal(request, admit),
            # As long as a token lives it shows the same: a role that changes ends it.
            hidden=not principal.of(request).policy.sees_payloads(department),
            last_event_id=_last_event_id(request, asked),
            heartbeat_seconds=settings.STREAM_HEARTBEAT_SECONDS,
            seat=seat,
        )
        return StreamingHttpResponse(feed, content_type=MEDIA_TYPE, headers=HEADERS)

    def _refusal(self, request: Request, admit: Callable[[Request], object]) -> Refusal | None:
        """Judge the same request again: a token ends, a right is taken away."""
        try:
            again = self.initialize_request(request._request)  # noqa: SLF001 - same
            self.perform_authentication(again)
            self.check_permissions(again)
            admit(again)
        except exceptions.APIException as exc:
            code = exc.get_codes()
            return Refusal(code if isinstance(code, str) else exc.default_code, str(exc.detail))
        except EngineError as exc:
            return Refusal(exc.code, exc.message)
        return None


class RunStreamView(StreamView):
    """What happens to a run, as it happens."""

    scopes: ClassVar[dict[str, str]] = {"GET": "runs.read"}

    @extend_schema(
        tags=["runs"],
        operation_id="streamRun",
        summary="Follow a run: a snapshot, then its events until it has ended",
        description=ABOUT.format(
            ending="When the run has ended, `end` carries it as it is then, and the stream closes."
        ),
        parameters=[*requests.parameters(StreamQuery), LAST_EVENT_ID],
        responses=ANSWERS,
        examples=[OpenApiExample("Events", value=EXAMPLE, media_type=MEDIA_TYPE)],
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """Stream."""
        run = selectors.run(run_id=requests.uuid(run_id, what="run"))
        missing = f"There is no run {run.id}"
        return self.listen(
            request,
            Topic("run", run.id),
            department=run.department,
            admit=partial(
                permissions.require, scope="runs.read", department=run.department, missing=missing
            ),
            show=lambda: representation(request, selectors.run(run_id=run.id)),
        )


def _last_event_id(request: Request, asked: StreamQuery) -> int | None:
    """Return where the client was; what is no id of ours is none."""
    given = request.headers.get("Last-Event-ID") or asked.last_event_id or ""
    known = given.isascii() and given.isdigit() and len(given) <= ID_DIGITS
    return int(given) if known else None
