"""`POST /runs` as multipart/form-data: fields as text, `input` as JSON, files by input field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import (
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.http.multipartparser import MultiPartParser as DjangoMultiPartParser
from django.http.multipartparser import MultiPartParserError
from rest_framework.exceptions import ParseError
from rest_framework.parsers import DataAndFiles, MultiPartParser

from engine import artifacts, registry, runs
from engine.api import requests
from engine.api.parsers import strict_json
from engine.api.problems import RequestInvalid
from engine.errors import InputInvalidError

if TYPE_CHECKING:
    from django.core.files.uploadedfile import UploadedFile
    from pydantic import BaseModel
    from rest_framework.request import Request

    from engine.api.submissions import RunRequest
    from engine.contracts import ArtifactRef

Model = TypeVar("Model", bound="BaseModel")

#: Form fields whose text is JSON.
_JSON_FIELDS = {"input", "tags", "priority", "window", "until_terminal"}

FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "automation": {"type": "string"},
        "input": {"type": "string", "description": "The input as JSON, files left out"},
        "dedupe_key": {"type": "string"},
        "window": {"type": "integer"},
        "until_terminal": {"type": "boolean"},
        "correlation_id": {"type": "string"},
        "priority": {"type": "integer"},
        "tags": {"type": "string", "description": "A JSON list of texts"},
        "deadline_at": {"type": "string", "format": "date-time"},
    },
    "additionalProperties": {"type": "string", "format": "binary"},
    "required": ["automation"],
}


class MultiPart(MultiPartParser):
    """Parse a form; a malformed one is a 400, whatever part of Django finds it out."""

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Any = None
    ) -> DataAndFiles[Any, Any]:
        """Return fields and files."""
        request = parser_context["request"]
        meta = {**request.META, "CONTENT_TYPE": media_type}
        try:
            form = _Form(meta, stream, request.upload_handlers, "utf-8")
            return DataAndFiles(*form.parse())
        except (TooManyFieldsSent, TooManyFilesSent):
            raise ParseError("The form has too many parts.") from None
        except (MultiPartParserError, SuspiciousOperation, UnicodeDecodeError) as exc:
            raise ParseError("The form is not valid multipart/form-data.") from exc


class _Form(DjangoMultiPartParser):
    def sanitize_file_name(self, file_name: str) -> str:
        """Name a file whose name is only a path: Django would leave the whole file out.

        Its run would start on the automation's default as if nothing had been sent.
        """
        return super().sanitize_file_name(file_name) or "file"


def read(request: Request, model: type[Model]) -> tuple[Model, dict[str, UploadedFile[Any]]]:
    """Return the request as the model, and its files by the input field they are for."""
    document: Any = request.data
    if not hasattr(document, "getlist"):
        return requests.body(document, model), {}
    # DRF's document holds the files as well.
    errors = [(f"/{name}", "given twice") for name in document if len(document.getlist(name)) > 1]
    if errors:
        raise RequestInvalid("A part of the form is given twice.", errors)
    fields: dict[str, Any] = {}
    for name in document:
        if name in request.FILES:
            continue
        text = document.get(name)
        fields[name] = _json(name, text) if name in _JSON_FIELDS else text
    files = {name: request.FILES[name] for name in request.FILES}
    return requests.body(fields, model), files


def _json(name: str, text: str) -> Any:
    try:
        return strict_json(text)
    except ParseError as exc:
        reason = str(exc.detail).removeprefix("The body is ")
        raise RequestInvalid(f"Field /{name}: {reason}", [(f"/{name}", reason)]) from None


def put(files: dict[str, UploadedFile[Any]], wanted: RunRequest) -> dict[str, ArtifactRef]:
    """Put the files into the store and return references by input field; no row names them yet.

    Names, and the rest of the input as far as it can be judged without the files, come first:
    nothing is stored for a request that cannot be accepted.
    """
    if not files:
        return {}
    declared = registry.automation(wanted.automation)
    known = set(declared.input.model_fields)
    problems = [
        {"field": name, "reason": f"unknown; known: {', '.join(sorted(known)) or 'none'}"}
        for name in files
        if name not in known
    ] + [
        {"field": name, "reason": "given in `input` and as a file"}
        for name in files
        if name in wanted.input
    ]
    if problems:
        raise InputInvalidError("A file names no free field of the input.", problems=problems)
    placeholder = {"sha256": "0" * 64, "name": "file", "size": 0}
    runs.validated_input(
        declared=declared, given={**wanted.input, **dict.fromkeys(files, placeholder)}
    )
    return {
        name: artifacts.put(
            name=(file.name or name).replace("\x00", ""),
            content=file.file,  # type: ignore[arg-type] # Django types it loosely
            media_type=(file.content_type or "application/octet-stream")[:100],
        )
        for name, file in files.items()
    }
