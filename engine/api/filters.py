"""Which runs and dead letters a call is about: the same words in queries and in bulk bodies."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, Self
from uuid import UUID  # noqa: TC003 - pydantic resolves annotations at run time

from pydantic import ConfigDict, Field, field_validator, model_validator

from engine import run_selectors
from engine.api.requests import Moment, Strict, Word
from engine.api.submissions import Tag  # noqa: TC001 - as above
from engine.states import RunState  # noqa: TC001 - as above


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


def _named_only(schema: dict[str, Any]) -> None:
    """Say in the schema what `_Named` asks: at least one, and none of them null."""
    schema["minProperties"] = 1
    for described in schema["properties"].values():
        options = [one for one in described.pop("anyOf", []) if one.get("type") != "null"]
        described.update(*options)
        described.pop("default", None)


class _Named(Strict):
    """A filter that must not be empty: what acts on many says on which."""

    model_config = ConfigDict(json_schema_extra=_named_only)

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        """Refuse null: read as "any", it would act on far more than who sent it had in mind."""
        if value is None:
            raise ValueError("null names nothing: leave it out, or give a value")
        return value

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.named:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"names nothing: give at least one of {known}")
        return self

    @property
    def named(self) -> dict[str, Any]:
        """Return the filters that were given a value."""
        return self.model_dump(exclude_none=True)


class CancelFilter(RunFilter, _Named):
    """Which runs that have not ended."""

    state: Literal["pending", "running", "paused", "blocked"] | None = None  # type: ignore[assignment] # fewer


class OpenLettersFilter(DeadLetterFilter, _Named):
    """Which open dead letters."""


class DeadLettersFilter(DeadLetterFilter):
    """Dead letters in any state."""

    state: Literal["open", "requeued", "discarded"] | None = None
