"""The JSON forms of departments and automations: the same in the API and in the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from departments.models import Automation
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
