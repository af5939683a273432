"""The JSON forms of what the engine shows: the same in the API and in `--json` of the commands."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, Field

from engine.disclosure import Disclosed
from engine.graph import UNMAPPED
from engine.states import RunState, StepState

if TYPE_CHECKING:
    from engine import models, selectors, wait_reasons


class Failure(BaseModel):
    """Why something failed: a stable code, and a message for those who may see payload."""

    code: str
    message: str | None

    @classmethod
    def of(cls, row: models.Run | models.StepRun) -> Self | None:
        """Return the failure a row carries, or None."""
        return cls(code=row.error_code, message=row.error_message) if row.error_code else None


class RunSummary(Disclosed):
    """A run as it stands in a list."""

    payloads: ClassVar[tuple[str, ...]] = ("error.message",)

    id: UUID
    automation: str
    version: int
    department: str
    state: RunState
    generation: int = Field(description="Raised by an operator's requeue")
    trigger: str
    created_by: str
    dedupe_key: str | None
    correlation_id: str
    traceparent: str = Field(
        default="", description="W3C Trace Context of who asked for it; empty for none"
    )
    priority: int
    tags: list[str]
    error: Failure | None
    deadline_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None

    @classmethod
    def of(cls, run: models.Run, **more: Any) -> Self:
        """Represent a run."""
        return cls(
            id=run.id,
            automation=run.automation,
            version=run.version.version,
            department=run.department,
            state=RunState(run.state),
            generation=run.generation,
            trigger=run.trigger,
            created_by=run.created_by,
            dedupe_key=run.dedupe_key or run.released_key or None,
            correlation_id=run.correlation_id,
            traceparent=run.traceparent,
            priority=run.priority,
            tags=run.tags,
            error=Failure.of(run),
            deadline_at=run.deadline_at,
            created_at=run.created_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            duration_seconds=run.duration.total_seconds() if run.duration is not None else None,
            **more,
        )


class Progress(BaseModel):
    """How far a run is, counted in steps; a map grows the total when it fans out."""

    total: int
    done: int
    running: int
    failed: int
    waiting: int
    percent: float
    by_state: dict[str, int]

    @classmethod
    def of(cls, progress: selectors.Progress) -> Self:
        """Represent a count of steps."""
        return cls(
            total=progress.total,
            done=progress.done,
            running=progress.running,
            failed=progress.failed,
            waiting=progress.waiting,
            percent=round(float(progress.percent), 1),
            by_state={str(state): number for state, number in progress.by_state.items()},
        )


class RunDetail(RunSummary):
    """A run with its input, how far it is, and its output once it has one."""

    payloads: ClassVar[tuple[str, ...]] = (*RunSummary.payloads, "input", "output")

    input: dict[str, Any] | None
    progress: Progress
    output: Any = None


class StepEntry(Disclosed):
    """One execution of a step in a run."""

    payloads: ClassVar[tuple[str, ...]] = ("error.message",)

    id: int
    step: str
    map_index: int | None = Field(description="Which item of a fan-out; null for a lone step")
    kind: str
    state: StepState
    queue: str
    attempt: int
    failures: int
    crashes: int
    worker: str
    error: Failure | None
    next_at: datetime | None
    ready_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: models.StepRun) -> Self:
        """Represent a StepRun."""
        return cls(
            id=row.id,
            step=row.key,
            map_index=None if row.map_index == UNMAPPED else row.map_index,
            kind=row.kind,
            state=StepState(row.state),
            queue=row.queue,
            attempt=row.attempt,
            failures=row.failures,
            crashes=row.crashes,
            worker=row.worker,
            error=Failure.of(row),
            next_at=row.next_at,
            ready_at=row.ready_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


class EventEntry(Disclosed):
    """One thing that happened to a run."""

    payloads: ClassVar[tuple[str, ...]] = ("data",)

    id: int
    kind: str
    step_id: int | None
    attempt: int | None
    actor: str
    data: dict[str, Any] | None
    at: datetime

    @classmethod
    def of(cls, row: models.RunEvent) -> Self:
        """Represent a RunEvent."""
        return cls(
            id=row.id,
            kind=row.kind,
            step_id=row.step_run_id,
            attempt=row.attempt,
            actor=row.actor,
            data=row.data,
            at=row.at,
        )


class ArtifactEntry(Disclosed):
    """A file: what it is called, how big, and where its content is."""

    #: The hash tells whoever has a copy of a content that this is the same.
    payloads: ClassVar[tuple[str, ...]] = ("sha256",)

    id: UUID
    name: str
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str | None
    created_at: datetime
    url: str = Field(description="Where to download the content")

    @classmethod
    def of(cls, row: models.Artifact) -> Self:
        """Represent an Artifact."""
        return cls(
            id=row.id,
            name=row.name,
            media_type=row.media_type,
            size=row.size,
            sha256=row.sha256,
            created_at=row.created_at,
            url=f"/artifacts/{row.id}",
        )


class Cause(BaseModel):
    """A stable code, a sentence for people, and the facts in it as data."""

    reason_code: str
    text: str
    details: dict[str, Any] = Field(
        description="What the sentence says, as data: since, until, queue, worker, parents, …"
    )

    @classmethod
    def of(cls, reason: wait_reasons.Reason) -> Self:
        """Represent the reason of a run."""
        return cls(reason_code=reason.cause.value, text=reason.text, details=reason.details)


class WhyEntry(BaseModel):
    """Why a step that has not ended is where it is."""

    step_id: int
    step: str
    state: StepState
    reason_code: str
    text: str
    details: dict[str, Any] = Field(
        description="What the sentence says, as data: since, until, queue, worker, parents, …"
    )

    @classmethod
    def of(cls, why: wait_reasons.StepReason) -> Self:
        """Represent the reason of a step."""
        return cls(
            step_id=why.step_run_id,
            step=why.step,
            state=StepState(why.state),
            reason_code=why.reason_code,
            text=why.text,
            details=why.reason.details,
        )


class DeadLetterEntry(Disclosed):
    """A step that failed for good."""

    payloads: ClassVar[tuple[str, ...]] = ("error.message",)

    id: int
    run_id: UUID
    department: str
    automation: str
    step: str
    map_index: int | None
    state: str
    error: Failure
    attempts: int
    crashes: int
    created_at: datetime
    resolved_at: datetime | None
    resolved_by: str

    @classmethod
    def of(cls, row: models.DeadLetter) -> Self:
        """Represent a DeadLetter."""
        return cls(
            id=row.pk,
            run_id=row.run_id,
            department=row.department,
            automation=row.automation,
            step=row.step,
            map_index=None if row.map_index == UNMAPPED else row.map_index,
            state=row.state,
            error=Failure(code=row.error_code, message=row.error_message),
            attempts=row.attempts,
            crashes=row.crashes,
            created_at=row.created_at,
            resolved_at=row.resolved_at,
            resolved_by=row.resolved_by,
        )


class EffectEntry(Disclosed):
    """One call of a step to the outside, as far as it is known."""

    payloads: ClassVar[tuple[str, ...]] = ("receipt",)

    id: int
    run_id: UUID
    run_state: str
    automation: str
    department: str
    step: str
    map_index: int | None
    step_state: str
    name: str
    key: str
    state: str
    idempotent: bool
    attempt: int
    receipt: Any
    error_code: str
    planned_at: datetime
    sent_at: datetime | None
    resolved_at: datetime | None
    resolved_by: str

    @classmethod
    def of(cls, row: models.Effect) -> Self:
        """Represent an Effect."""
        step = row.step_run
        return cls(
            id=row.pk,
            run_id=row.run_id,
            run_state=row.run.state,
            automation=row.run.automation,
            department=row.run.department,
            step=step.key,
            map_index=None if step.map_index == UNMAPPED else step.map_index,
            step_state=step.state,
            name=row.name,
            key=row.key,
            state=row.state,
            idempotent=row.idempotent,
            attempt=row.attempt,
            receipt=row.receipt,
            error_code=row.error_code,
            planned_at=row.planned_at,
            sent_at=row.sent_at,
            resolved_at=row.resolved_at,
            resolved_by=row.resolved_by,
        )
