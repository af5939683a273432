"""Hand a stored file to a browser so that nothing in it can act in this site's name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.http import FileResponse, HttpResponseNotModified

from engine import artifacts

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    from engine.models import Artifact

#: Files are saved, never shown: should a browser show one all the same, nothing in it acts, loads
#: or has an origin.
POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?charset=[\w-]+)?", re.ASCII)


def response(request: HttpRequest, artifact: Artifact) -> HttpResponseBase:
    """Return the content as an attachment; raises NotFoundError when the file is gone.

    Content never changes under its hash, so the hash is the ETag.
    """
    etag = f'"{artifact.sha256}"'
    if request.headers.get("If-None-Match") == etag:
        return HttpResponseNotModified(headers={"ETag": etag})
    media_type = artifact.media_type
    if not _MEDIA_TYPE.fullmatch(media_type):
        media_type = "application/octet-stream"
    answer = FileResponse(
        artifacts.open_content(sha256=artifact.sha256),
        as_attachment=True,
        filename=artifact.name.replace("\r", " ").replace("\n", " "),
        content_type=media_type,
    )
    answer["Content-Length"] = str(artifact.size)
    answer["Content-Security-Policy"] = POLICY
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-cache"
    answer["ETag"] = etag
    return answer
