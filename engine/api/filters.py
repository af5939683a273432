"""Which runs and dead letters a call is about: the same words in queries and in bulk bodies."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID  # noqa: TC003 - pydantic resolves annotations at run time

from pydantic import Field

from engine import run_selectors
from engine.api.requests import Moment, Strict, Word
from engine.api.submissions import Tag  # noqa: TC001 - as above
from engine.states import RunState  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Iterable


class RunFilter(Strict):
    """Runs that are all of this."""

    state: RunState | None = None
    department: Word | None = None
    automation: Word | None = None
    correlation_id: Word | None = None
    error_code: Word | None = Field(default=None, description="Of the run, not of its steps")
    tag: Tag | None = Field(default=None, description="Runs that carry this tag")
    created_after: Moment | None = Field(default=None, description="From then on; with its offset")
    created_before: Moment | None = Field(default=None, description="Before then; with its offset")

    @property
    def wanted(self) -> run_selectors.Wanted:
        """Return the filters as the selector takes them."""
        names = {field.name for field in fields(run_selectors.Wanted)}
        return run_selectors.Wanted(**self.model_dump(include=names))


class DeadLetterFilter(Strict):
    """Dead letters that are all of this."""

    department: Word | None = None
    automation: Word | None = None
    error_code: Word | None = Field(default=None, description="Of the step that failed")
    run_id: UUID | None = None


class DeadLettersFilter(DeadLetterFilter):
    """Dead letters in any state."""

    state: Literal["open", "requeued", "discarded"] | None = None


def named(given: Strict, *, beside: Iterable[str] = ()) -> dict[str, Any]:
    """Return the filters that were given a value; `beside`: what of the model is no filter."""
    return given.model_dump(exclude_none=True, exclude=set(beside))
