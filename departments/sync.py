"""Bring the declared catalog into the database: departments, lanes, automations, versions."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection, transaction

from departments.models import Automation, Department
from engine import definitions, lanes, registry
from engine.errors import GraphInvalidError
from engine.models import AutomationVersion

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
        _sync_departments()
        names = _sync_automations()
    return SyncReport(
        departments=len(registry.departments),
        automations=len(registry.automations),
        new_versions=len(names),
        new_version_names=tuple(names),
    )


def _sync_departments() -> None:
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
    Department.objects.exclude(slug__in=registry.departments).update(declared=False)


def _sync_automations() -> list[str]:
    """Upsert the automations and return the versions that did not exist before, by name."""
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
    Automation.objects.exclude(name__in=registry.automations).update(declared=False)
    return fresh
