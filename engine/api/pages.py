"""One page of a list: its rows and the address of the next page, by keyset, never by offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, Field
from rest_framework.response import Response

from engine.representations import (
    ArtifactEntry,
    Cause,
    DeadLetterEntry,
    EventEntry,
    RunSummary,
    StepEntry,
    WhyEntry,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rest_framework.request import Request

Item = TypeVar("Item", bound=BaseModel)


class Listing(BaseModel, Generic[Item]):
    """Rows, and where to go on."""

    results: list[Item]
    next: str | None = Field(default=None, description="Address of the next page; null at the end")


class RunList(Listing[RunSummary]):
    """Runs, newest first."""

    previous: str | None = Field(
        default=None, description="Address of the page with newer runs; null on the first"
    )
    count: int | None = Field(default=None, description="With `count=true`: how many there are")
    count_is_exact: bool | None = Field(
        default=None, description="False when there are more than were counted"
    )


class StepList(Listing[StepEntry]):
    """Steps of a run."""


class EventList(Listing[EventEntry]):
    """History of a run, oldest first."""

    follow: str | None = Field(
        default=None,
        description=(
            "On the last page: the address to ask again later for what comes. An event may "
            "be told twice, known by its `id`; none is left out, however late it was committed"
        ),
    )


class ArtifactList(Listing[ArtifactEntry]):
    """Files of a run."""


class WhyList(Listing[WhyEntry]):
    """Why each step that has not ended is where it is, and the run as a whole."""

    run: Cause | None = Field(default=None, description="Null when the run has ended")


class DeadLetterList(Listing[DeadLetterEntry]):
    """Dead letters, newest first."""


def page(
    request: Request,
    entries: Sequence[BaseModel],
    *,
    limit: int | None = None,
    cursor: str = "",
    **more: Any,
) -> Response:
    """Answer with the entries; a full page names the next one by the last entry's id.

    more: what stands beside the rows.
    """
    following: str | None = None
    if limit is not None and len(entries) == limit:
        following = address(request, **{cursor: entries[-1].id})  # type: ignore[attr-defined] # all pages have ids
    results: list[dict[str, Any]] = [entry.model_dump(mode="json") for entry in entries]
    return Response({"results": results, "next": following, **more})


def address(request: Request, **changes: Any) -> str:
    """Return the address of the request with other parameters; None takes one away."""
    parameters = request.query_params.copy()
    for name, value in changes.items():
        parameters.pop(name, None)
        if value is not None:
            parameters[name] = str(value)
    return request.build_absolute_uri(f"{request.path}?{parameters.urlencode()}")
