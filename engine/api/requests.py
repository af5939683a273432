"""Read queries, bodies and ids of requests strictly: unknown or malformed parts are 4xx."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from engine.api.problems import RequestInvalid
from engine.errors import NotFoundError

if TYPE_CHECKING:
    from rest_framework.request import Request

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
BIGINT_MAX = 2**63 - 1

#: A short text PostgreSQL can hold.
Word = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
#: What every clock can show, in whatever zone. Nothing here lies outside.
_DATED = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")
EARLIEST, LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


def _shown_by_clocks(moment: datetime) -> datetime:
    """Return the nearest moment that every clock can show: on the same side of all there is."""
    return min(max(moment, EARLIEST), LATEST)


def _written_out(value: Any) -> Any:
    """Refuse seconds since 1970, which a date of eight digits would be taken for."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and _DATED.match(value)):
        raise ValueError("must be written as 2026-11-30T08:00:00Z, with its offset from UTC")
    return value


#: A point in time, with its offset from UTC.
Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]
#: The same, moved to where every clock can show it.
Moment = Annotated[Instant, AfterValidator(_shown_by_clocks)]


def _whole(number: Any) -> Any:
    """Return 5 for 5.0: to JSON they are the same number."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


#: Last in the type of a whole number, behind its bounds: pydantic describes bounds that stand
#: behind a validator in words that are none of JSON Schema's.
WHOLE = BeforeValidator(_whole)
#: The id of a row.
RowId = Annotated[int, Field(ge=1, le=BIGINT_MAX)]


class Strict(BaseModel):
    """A model that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid")


class Page(Strict):
    """How many."""

    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="How many at most")


class Nothing(Strict):
    """No parameters at all."""


Model = TypeVar("Model", bound=BaseModel)


def query(request: Request, model: type[Model]) -> Model:
    """Return the query parameters as the model; one given twice or unknown is a 400."""
    given = request.query_params
    twice = [name for name in given if len(given.getlist(name)) > 1]
    if twice:
        raise RequestInvalid(
            f"Query parameter {twice[0]} is given twice.", [(twice[0], "given twice")]
        )
    try:
        return model.model_validate(dict(given.items()))
    except ValidationError as exc:
        raise _invalid(exc, kind="Query parameter", prefix="", known=model) from None


def body(document: Any, model: type[Model]) -> Model:
    """Return the parsed body as the model; each problem carries its JSON pointer."""
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise _invalid(exc, kind="Field", prefix="/", known=model) from None


def nothing(request: Request) -> None:
    """Refuse query parameters, and a JSON body other than an empty object, where none is taken."""
    query(request, Nothing)
    is_json = (request.content_type or "").startswith("application/json")
    if request.method not in {"GET", "HEAD"} and is_json and request.body:
        body(request.data, Nothing)


def request_id(request: Request) -> str:
    """Return the id the telemetry middleware gave the request."""
    return str(getattr(request._request, "request_id", ""))  # noqa: SLF001 - Django's own request


def traceparent(request: Request) -> str:
    """Return the W3C trace context the telemetry middleware found sound; "" for none."""
    return str(getattr(request._request, "traceparent", ""))  # noqa: SLF001 - Django's own request


def uuid(text: str, *, what: str) -> UUID:
    """Return the id out of a path; what is no id names nothing that exists."""
    try:
        found = UUID(text)
    except ValueError:
        found = None
    # One address for one thing: not also in braces, as a URN or without its hyphens.
    if found is None or str(found) != text.lower():
        raise NotFoundError(f"There is no such {what}: its id is not a UUID.")
    return found


def row_id(text: str, *, what: str) -> int:
    """Return the number out of a path."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(BIGINT_MAX)):
        number = int(text)
        if 0 < number <= BIGINT_MAX:
            return number
    raise NotFoundError(f"There is no such {what}: its id is not a number.")


def name(text: str, *, what: str) -> str:
    """Return the name out of a path."""
    if "\x00" in text:
        raise NotFoundError(f"There is no such {what}.")
    return text


def parameters(model: type[BaseModel]) -> list[OpenApiParameter]:
    """Describe the query parameters of a model for `/openapi.json`."""
    schema = model.model_json_schema()
    return [
        OpenApiParameter(
            name=name,
            type=_schema_of(dict(described), schema.get("$defs", {})),
            description=str(described.get("description", "")),
            required=name in schema.get("required", []),
        )
        for name, described in schema.get("properties", {}).items()
    ]


def _schema_of(described: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one parameter: not nullable, references resolved."""
    options = [option for option in described.get("anyOf", []) if option.get("type") != "null"]
    found = {**described, **(options[0] if options else {})}
    if reference := found.pop("$ref", None):
        found |= definitions[reference.rpartition("/")[2]]
    return {
        key: value
        for key, value in found.items()
        if key not in {"anyOf", "title", "description"} and value is not None
    }


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model of the object at the place within what the model describes."""
    for part in place:
        inner = model.model_fields[str(part)].annotation if part in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return model


def _invalid(
    exc: ValidationError, *, kind: str, prefix: str, known: type[BaseModel]
) -> RequestInvalid:
    errors: list[tuple[str, str]] = []
    for error in exc.errors(include_url=False, include_context=False, include_input=False):
        place = "/".join(str(part) for part in error["loc"])
        reason = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            fields = _model_at(known, error["loc"][:-1]).model_fields
            reason = f"unknown; known: {', '.join(fields) or 'none'}"
        elif error["type"] == "model_type":
            reason = "must be a JSON object"
        elif error["type"] == "string_pattern_mismatch":
            reason = "contains a NUL character, which cannot be stored"
        errors.append((f"{prefix}{place}", reason))
    where, reason = errors[0]
    whole = "The body" if prefix else "The query"
    return RequestInvalid(f"{f'{kind} {where}' if where else whole}: {reason}", errors)
