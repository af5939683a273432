"""Hand a stored file to a browser so that nothing in it can act in this site's name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.http import FileResponse, HttpResponse, HttpResponseNotModified

from engine import artifacts

if TYPE_CHECKING:
    from typing import BinaryIO

    from django.http import HttpRequest, HttpResponseBase

    from engine.models import Artifact

#: Files are saved, never shown: should a browser show one all the same, nothing in it acts, loads
#: or has an origin.
POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?charset=[\w-]+)?", re.ASCII)
#: One range, as RFC 9110 writes it; several at once are answered by the whole.
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)


class _Part:
    """The bytes of a file from its present place on, as many as are left of `length`."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int) -> bytes:
        found = self._file.read(min(size, self._left))
        self._left -= len(found)
        return found

    def close(self) -> None:
        self._file.close()


def response(request: HttpRequest, artifact: Artifact) -> HttpResponseBase:
    """Return the content as an attachment; raises NotFoundError when the file is gone.

    Content never changes under its hash, so the hash is the ETag. A `Range` is answered by its
    bytes (206), one behind the end by 416.
    """
    etag = f'"{artifact.sha256}"'
    if request.headers.get("If-None-Match") == etag:
        return HttpResponseNotModified(headers={"ETag": etag})
    media_type = artifact.media_type
    if not _MEDIA_TYPE.fullmatch(media_type):
        media_type = "application/octet-stream"
    wanted = _range(request, artifact.size, etag)
    if wanted is not None and not wanted:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{artifact.size}"})
    file = artifacts.open_content(sha256=artifact.sha256)
    if wanted is not None:
        file.seek(wanted.start)
    answer = FileResponse(
        file if wanted is None else _Part(file, len(wanted)),
        as_attachment=True,
        filename=artifact.name.replace("\r", " ").replace("\n", " "),
        content_type=media_type,
    )
    answer["Content-Length"] = str(artifact.size if wanted is None else len(wanted))
    answer["Accept-Ranges"] = "bytes"
    if wanted is not None:
        answer.status_code = 206
        answer["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{artifact.size}"
    answer["Content-Security-Policy"] = POLICY
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-cache"
    answer["ETag"] = etag
    return answer


def _range(request: HttpRequest, size: int, etag: str) -> range | None:
    """Return the bytes that are asked for, empty when there are none; None for the whole file."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    # Of another content than the client has begun with, it needs all.
    is_of_this = request.headers.get("If-Range", etag) == etag
    if found is None or not is_of_this or request.method != "GET":
        return None
    first, last, tail = found.groups()
    if tail is not None:
        return range(max(size - int(tail), 0), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)
