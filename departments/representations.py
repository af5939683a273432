"""The JSON forms of what departments own: the same in the API and in the commands."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, Field

from engine.disclosure import Disclosed

if TYPE_CHECKING:
    from departments.models import Automation, Schedule
    from departments.selectors import DepartmentStatus
    from engine.models import AutomationVersion


class DepartmentEntry(BaseModel):
    """A department, its lane, and what is open in it."""

    slug: str
    title: str
    purpose: str
    declared: bool = Field(description="Still declared in the catalog")
    queue: str
    paused: bool
    max_concurrency: int | None
    automations: int
    open_runs: dict[str, int] = Field(description="Runs that have not ended, by state")
    open_dead_letters: int

    @classmethod
    def of(cls, status: DepartmentStatus) -> Self:
        """Represent a department."""
        return cls(
            slug=status.department.slug,
            title=status.department.title,
            purpose=status.department.purpose,
            declared=status.department.declared,
            queue=status.lane.queue,
            paused=status.lane.paused,
            max_concurrency=status.lane.max_concurrency,
            automations=status.automations,
            open_runs=status.open_runs,
            open_dead_letters=status.open_dead_letters,
        )


class AutomationEntry(BaseModel):
    """An automation as it stands in a list."""

    name: str
    department: str
    title: str
    description: str
    declared: bool = Field(description="Still declared in the catalog")
    version: int = Field(description="What new runs use")

    @classmethod
    def of(cls, row: Automation, **more: Any) -> Self:
        """Represent an automation."""
        return cls(
            name=row.name,
            department=row.department_id,
            title=row.title,
            description=row.description,
            declared=row.declared,
            version=row.current_version.version,
            **more,
        )


class GraphNode(BaseModel):
    """A step in the graph of an automation."""

    key: str
    step: str
    mapped: bool = Field(description="Runs once for each item of a list")
    after: list[str] = Field(description="Steps it waits for")


class GraphForm(BaseModel):
    """What is called with what, and what follows what."""

    nodes: list[GraphNode]
    output: str | None = Field(description="Whose result is the run's output")
    on_dead: str


class VersionEntry(BaseModel):
    """A version of an automation: immutable."""

    version: int
    checksum: str
    created_at: str

    @classmethod
    def of(cls, row: AutomationVersion) -> Self:
        """Represent a version."""
        return cls(
            version=row.version, checksum=row.checksum, created_at=row.created_at.isoformat()
        )


class AutomationDetail(AutomationEntry):
    """An automation with the form of its input, its graph and its versions."""

    input_schema: dict[str, Any] = Field(description="JSON Schema of the input")
    graph: GraphForm
    versions: list[VersionEntry]


class ScheduleEntry(Disclosed):
    """A schedule, as it stands in a list and alone."""

    payloads: ClassVar[tuple[str, ...]] = ("input", "error")

    name: str
    automation: str
    input: dict[str, Any] | None
    cron: str = Field(description="minute hour day month weekday")
    time_zone: str
    catch_up: str = Field(description="What becomes of fire times that were missed")
    catch_up_limit: int
    enabled: bool
    next_fire_at: datetime | None
    last_fire_at: datetime | None = Field(description="Of the last run it started")
    error: str | None = Field(description="Why it could not start its last run; empty when it did")

    @classmethod
    def of(cls, row: Schedule) -> Self:
        """Represent a schedule."""
        return cls(
            name=row.name,
            automation=row.automation_id,
            input=row.input,
            cron=row.cron,
            time_zone=row.time_zone,
            catch_up=row.catch_up,
            catch_up_limit=row.catch_up_limit,
            enabled=row.enabled,
            next_fire_at=row.next_fire_at,
            last_fire_at=row.last_fire_at,
            error=row.error,
        )
