"""`/departments/{slug}/stream`: what happens to the runs of a department, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from drf_spectacular.utils import OpenApiExample, extend_schema

from departments import selectors
from departments.representations import DepartmentEntry
from engine.api import permissions, requests
from engine.api.streams import (
    ABOUT,
    ANSWERS,
    EXAMPLE,
    LAST_EVENT_ID,
    MEDIA_TYPE,
    StreamQuery,
    StreamView,
)
from engine.streaming.entries import Topic

if TYPE_CHECKING:
    from typing import Any

    from django.http.response import HttpResponseBase
    from rest_framework.request import Request


class DepartmentStreamView(StreamView):
    """The events of all runs of a department."""

    scopes: ClassVar[dict[str, str]] = {"GET": "departments.read"}

    @extend_schema(
        tags=["departments"],
        operation_id="streamDepartment",
        summary="Follow a department: a snapshot with its counts, then the events of its runs",
        description=ABOUT.format(ending="The stream itself has no end."),
        parameters=[*requests.parameters(StreamQuery), LAST_EVENT_ID],
        responses=ANSWERS,
        examples=[OpenApiExample("Events", value=EXAMPLE, media_type=MEDIA_TYPE)],
    )
    def get(self, request: Request, slug: str) -> HttpResponseBase:
        """Stream."""
        name = requests.name(slug, what="department")

        def show() -> dict[str, Any]:
            return DepartmentEntry.of(selectors.department(slug=name)).model_dump(mode="json")

        def admit(request: Request) -> None:
            missing = f"There is no department {name!r}."
            permissions.require(request, "departments.read", name, missing=missing)
            # What it tells is the history of runs.
            if name not in permissions.reach(request, "runs.read"):
                raise permissions.ScopeMissing("runs.read", name)

        admit(request)
        selectors.department(slug=name)
        return self.listen(
            request, Topic("department", name), department=name, admit=admit, show=show
        )
