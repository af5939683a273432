"""Versions of automations: stored once per content, read once per process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from engine.graph import Graph
from engine.models import AutomationVersion

if TYPE_CHECKING:
    from engine.registry import AutomationDeclaration

#: Graphs are immutable, so a process may keep them; bounded for catalogs with a long history.
KEPT_GRAPHS = 512
#: Two processes may number a new version at the same time; one of them then numbers again.
NUMBERING_TRIES = 5


def ensure_version(declared: AutomationDeclaration) -> AutomationVersion:
    """Return the stored version of what the code declares; store it if it is new."""
    for _ in range(NUMBERING_TRIES):
        stored = AutomationVersion.objects.filter(
            automation=declared.name, checksum=declared.checksum
        ).first()
        if stored is not None:
            return stored
        last = AutomationVersion.objects.filter(automation=declared.name).aggregate(
            last=Max("version")
        )["last"]
        try:
            with transaction.atomic():
                return AutomationVersion.objects.create(
                    automation=declared.name,
                    version=(last or 0) + 1,
                    department=declared.department,
                    title=declared.title,
                    checksum=declared.checksum,
                    graph=declared.graph.dump(),
                    input_schema=declared.input_schema,
                    created_at=timezone.now(),
                )
        except IntegrityError:
            continue
    raise RuntimeError(f"cannot number a new version of {declared.name}")


@lru_cache(maxsize=KEPT_GRAPHS)
def graph(version_id: int) -> Graph:
    """Return the graph of a version."""
    stored = AutomationVersion.objects.only("graph").get(pk=version_id)
    return Graph.load(stored.graph)
