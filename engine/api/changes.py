"""Bodies of PATCH: what is left out stays as it is, and nothing at all is no change."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from engine.api.requests import Strict


def no_default(schema: dict[str, Any]) -> None:
    """Name no default in a field's schema: what is left out stays as it is."""
    schema.pop("default", None)


class Change(Strict):
    """A body that names at least one field."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(f"names nothing to change: {', '.join(type(self).model_fields)}")
        return self
