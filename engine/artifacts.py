"""Files under the hash of their content: written whole or not at all, before any row names them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import uuid_utils.compat as uuids
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils import timezone

from engine.contracts import ArtifactRef
from engine.errors import NotFoundError, StepError
from engine.models import Artifact

if TYPE_CHECKING:
    from uuid import UUID

CHUNK_BYTES = 1024 * 1024
#: Up to this size content waits in memory for its hash; above, in a temporary file.
SPOOL_BYTES = 8 * 1024 * 1024


def store(
    *, name: str, content: bytes | BinaryIO, media_type: str, created_by: str = ""
) -> ArtifactRef:
    """Keep an uploaded file: content and a row that belongs to no run yet."""
    ref = put(name=name, content=content, media_type=media_type)
    record(ref, created_by=created_by)
    return ref


def record(ref: ArtifactRef, *, created_by: str) -> None:
    """Write the row of an uploaded file whose content is in the store."""
    Artifact.objects.create(
        id=uuids.uuid7(),
        name=ref.name,
        sha256=ref.sha256,
        size=ref.size,
        media_type=ref.media_type,
        created_by=created_by,
        created_at=timezone.now(),
    )


def put(*, name: str, content: bytes | BinaryIO, media_type: str) -> ArtifactRef:
    """Write the content into the store and return its reference; no row is written.

    Raises StepError `artifact_too_large` (permanent) above MAX_ARTIFACT_BYTES.
    """
    source = BytesIO(content) if isinstance(content, bytes) else content
    digest = hashlib.sha256()
    size = 0
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        while chunk := source.read(CHUNK_BYTES):
            size += len(chunk)
            if size > settings.MAX_ARTIFACT_BYTES:
                raise StepError(
                    "artifact_too_large",
                    f"{name} is larger than {settings.MAX_ARTIFACT_BYTES} bytes "
                    "(MAX_ARTIFACT_BYTES)",
                    permanent=True,
                )
            digest.update(chunk)
            spool.write(chunk)
        spool.seek(0)
        sha256 = digest.hexdigest()
        _write(sha256, cast("BinaryIO", spool))
    safe = Path(name.replace("\\", "/")).name.replace("\x00", "") or "file"
    return ArtifactRef(sha256=sha256, name=safe[-255:], size=size, media_type=media_type)


def open_content(*, sha256: str) -> BinaryIO:
    """Open stored content for reading; NotFoundError when it is gone."""
    try:
        return cast("BinaryIO", _storage().open(_key(sha256), "rb"))
    except FileNotFoundError:
        raise NotFoundError(f"The content {sha256[:12]}… is not in the artifact store") from None


def get(*, artifact_id: UUID) -> Artifact:
    """Return the row of an artifact, with its run if it is of one."""
    found = Artifact.objects.select_related("run").filter(pk=artifact_id).first()
    if found is None:
        raise NotFoundError(f"There is no artifact {artifact_id}")
    return found


def _storage() -> Storage:
    return storages["artifacts"]


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def _write(sha256: str, spool: BinaryIO) -> None:
    storage = _storage()
    key = _key(sha256)
    if storage.exists(key):
        return
    if not isinstance(storage, FileSystemStorage):
        storage.save(key, File(spool))
        return
    # A crash in the middle must not leave half a file under a whole file's hash.
    target = Path(storage.path(key))
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    descriptor, fresh = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            while chunk := spool.read(CHUNK_BYTES):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(target)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
