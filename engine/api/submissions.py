"""The body of `POST /runs`: what may be asked for when a run is started."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from django.utils import timezone
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from engine import runs
from engine.api.requests import Strict, Word

MAX_TAGS = 50
#: Further ahead than this a deadline is a mistake; at the calendar's ends no clock can show it.
MAX_DEADLINE = timedelta(days=3660)


def _ahead(moment: datetime) -> datetime:
    """Refuse a deadline that has passed already or lies absurdly far ahead."""
    now = timezone.now()
    if not now < moment <= now + MAX_DEADLINE:
        raise ValueError(f"must lie ahead, at most {MAX_DEADLINE.days} days")
    return moment


Tag = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]


class RunRequest(Strict):
    """What to run, with what."""

    automation: Word = Field(description="e.g. finance.cashflow_report")
    input: dict[str, Any] = Field(default={}, description="By the automation's input schema")
    dedupe_key: (
        Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
        | None
    ) = Field(default=None, description="The same key starts no second run of the automation")
    correlation_id: Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00]*$")] = ""
    priority: int = Field(
        default=0,
        strict=True,
        ge=runs.PRIORITIES[0],
        le=runs.PRIORITIES[-1],
        description="Higher goes first",
    )
    tags: list[Tag] = Field(default=[], max_length=MAX_TAGS)
    deadline_at: Annotated[AwareDatetime, AfterValidator(_ahead)] | None = Field(
        default=None, description="With its offset; the run is ended when this has passed"
    )
