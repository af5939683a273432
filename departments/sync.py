"""Bring the declared catalog into the database: departments, lanes, automations, versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from departments.models import Automation, Department
from engine import definitions, lanes, registry
from engine.audit import trail
from engine.errors import GraphInvalidError
from engine.models import AutomationVersion

if TYPE_CHECKING:
    from django.db.models import QuerySet

#: Key of the PostgreSQL advisory lock that lets one process at a time write the catalog.
SYNC_LOCK = 0x0CA7_A106


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What a sync found and did: numbers declared, and the versions that are new."""

    departments: int
    automations: int
    new_versions: int
    new_version_names: tuple[str, ...] = ()


def sync_catalog() -> SyncReport:
    """Write what the code declares; whatever is declared no more stays, marked `declared=False`.

    Safe to call from several processes at once and as often as wanted. Raises GraphInvalidError,
    before it writes anything, while the catalog has problems: a file that cannot be imported must
    not make its automations look withdrawn.
    """
    if registry.problems:
        raise GraphInvalidError("The catalog has problems: " + "; ".join(registry.problems))
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SYNC_LOCK])
        withdrawn = _sync_departments()
        names, gone = _sync_automations()
        if names or withdrawn or gone:
            after = {"new_versions": names, "departments": withdrawn, "automations": gone}
            trail.record("catalog.sync", kind="catalog", id="", after=after)
    return SyncReport(
        departments=len(registry.departments),
        automations=len(registry.automations),
        new_versions=len(names),
        new_version_names=tuple(names),
    )


def _sync_departments() -> list[str]:
    for declared in registry.departments.values():
        lanes.declare(slug=declared.slug, queue=declared.slug)
    Department.objects.bulk_create(
        [
            Department(slug=d.slug, title=d.title, purpose=d.purpose, declared=True)
            for d in registry.departments.values()
        ],
        update_conflicts=True,
        unique_fields=["slug"],
        update_fields=["title", "purpose", "declared"],
    )
    gone = Department.objects.exclude(slug__in=registry.departments).filter(declared=True)
    return _withdraw(gone)


def _withdraw(gone: QuerySet[Any]) -> list[str]:
    """Mark what is declared no more; return its names."""
    names = [str(name) for name in gone.values_list("pk", flat=True)]
    gone.update(declared=False)
    return names


def _sync_automations() -> tuple[list[str], list[str]]:
    """Upsert the automations; return the versions that are new, and what is declared no more."""
    known = set(AutomationVersion.objects.values_list("automation", "checksum"))
    fresh: list[str] = []
    rows: list[Automation] = []
    for declared in registry.automations.values():
        version = definitions.ensure_version(declared)
        if (version.automation, version.checksum) not in known:
            fresh.append(str(version))
        rows.append(
            Automation(
                name=declared.name,
                department_id=declared.department,
                title=declared.title,
                description=declared.description,
                declared=True,
                current_version=version,
            )
        )
    Automation.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["department", "title", "description", "declared", "current_version"],
    )
    gone = Automation.objects.exclude(name__in=registry.automations).filter(declared=True)
    return fresh, _withdraw(gone)
