"""Files that an input names by their content: a run reads for somebody what that one may read.

A reference holds a SHA-256 and nothing else that proves anything. Without this, whoever has heard
of a hash has a run of their own department read, and report, a file of another one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from engine.contracts import ArtifactRef
from engine.errors import InputInvalidError
from engine.models import Artifact

if TYPE_CHECKING:
    from engine.access.policy import Policy

READ = "artifacts.read"
#: Said of files that are not there and of those that are others' alike.
MISSING = "there is no such file that you may read; send it with the call"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REQUIRED = {name for name, field in ArtifactRef.model_fields.items() if field.is_required()}


def named(given: Any) -> list[tuple[str, str]]:
    """Return the files an input names, at whatever depth: (dotted place, SHA-256) of each.

    A list: keys may hold dots, so two files may stand at what is written as one place.
    """
    found: list[tuple[str, str]] = []
    rest: list[tuple[tuple[str, ...], Any]] = [((), given)]
    while rest:
        place, value = rest.pop()
        if isinstance(value, dict):
            if value.keys() >= _REQUIRED and _is_hash(value["sha256"]):
                found.append((".".join(place), value["sha256"]))
            rest += [((*place, str(name)), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            rest += [((*place, str(number)), inner) for number, inner in enumerate(value)]
    return found


def require_readable(given: Any, *, reader: Policy, uploader: str = "") -> None:
    """Refuse an input that names a file its giver may not read; no query when it names none.

    reader: what the giver may do. uploader: under which name their own uploads stand, which belong
    to no run. Raises InputInvalidError naming each field, in the same words for what is not there.
    """
    wanted = named(given)
    if not wanted:
        return
    rows = Artifact.objects.filter(sha256__in={sha256 for _, sha256 in wanted})
    reach = reader.departments(READ)
    if not reach.everywhere:
        seen = Q(run__department__in=reach.slugs)
        if uploader:
            seen |= Q(run=None, created_by=uploader)
        rows = rows.filter(seen)
    known = set(rows.values_list("sha256", flat=True).distinct())
    problems = [
        {"field": place, "reason": MISSING}
        for place, sha256 in sorted(wanted)
        if sha256 not in known
    ]
    if problems:
        text = "; ".join(f"{found['field'] or 'input'}: {found['reason']}" for found in problems)
        raise InputInvalidError(text, problems=problems)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None
