"""Runs and the executions of their steps. State columns are written by `engine.transitions` only.

`StepRun`, `Lease` and the io tables are the hot path: narrow, few indexes, room for HOT updates.
Rows that are inserted by the same statement that has just written or locked their parent carry no
foreign key constraint (the parent provably exists; the check would cost a query per row).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Now

from engine.graph import UNMAPPED
from engine.models.definitions import AutomationVersion
from engine.states import RUN_TERMINAL, RunState, StepState

if TYPE_CHECKING:
    from datetime import timedelta


#: Sorted, so that a migration made from them is the same on every day.
_RUN_ENDED = sorted(state.value for state in RUN_TERMINAL)


def _choices(states: type[RunState | StepState]) -> list[tuple[str, str]]:
    return [(state.value, state.value.replace("_", " ")) for state in states]


def _sound(table: str, *columns: str) -> models.CheckConstraint:
    """Return the constraint that no row may break: what it says is in migration 0006.

    A function, because PostgreSQL reads the text of every constraint, and plans it, each time a
    statement writes a row; what it remembers of a function is ready (README, "Decisions").
    """
    return models.CheckConstraint(
        name=f"{table}_is_sound",
        condition=Func(
            *(F(column) for column in columns),
            function=f"engine_{table}_is_sound",
            output_field=models.BooleanField(),
        ),
    )


class Run(models.Model):
    """One execution of one version of an automation with one input."""

    id = models.UUIDField(primary_key=True)  # UUIDv7 by engine.runs: sorts by creation time
    automation = models.CharField(max_length=200)
    department = models.CharField(max_length=63)
    # No index: nobody asks for the runs of a version, and each run would pay for it three times.
    version = models.ForeignKey(
        AutomationVersion,
        on_delete=models.PROTECT,
        related_name="runs",
        db_index=False,
        db_constraint=False,
    )
    state = models.CharField(max_length=12, choices=_choices(RunState))
    #: Where `cancelling` ends: cancelled, failed or timed_out.
    ending = models.CharField(max_length=12, blank=True, default="")
    #: Sinks of the graph that have not succeeded; 0 ends the run.
    pending = models.IntegerField()
    generation = models.PositiveIntegerField(default=1, help_text="Raised by an operator's requeue")
    input = models.JSONField()
    error_code = models.CharField(max_length=100, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    dedupe_key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - unique when set
    #: The key it was started under, once a later run may have that.
    released_key = models.CharField(max_length=255, blank=True, default="", db_default="")
    #: Whether that was because it had ended: it may be retried only when it can have the key back.
    released_at_end = models.BooleanField(default=False, db_default=False)
    correlation_id = models.CharField(max_length=100, blank=True, default="")
    traceparent = models.CharField(
        max_length=55, blank=True, default="", db_default="", help_text="W3C Trace Context"
    )
    priority = models.SmallIntegerField(default=0, help_text="Higher goes first")
    tags = models.JSONField(default=list)
    trigger = models.CharField(
        max_length=20, help_text="api, command, event, schedule, webhook or admin"
    )
    created_by = models.CharField(max_length=150, blank=True, default="")
    deadline_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # GET /runs and the admin's list: newest first, keyset by id (UUIDv7), each combination
            # of filters (engine.run_selectors goes through the states where none is asked for).
            models.Index(fields=["state", "id"], name="run_by_state"),
            models.Index(fields=["department", "state", "id"], name="run_by_department_state"),
            models.Index(fields=["automation", "state", "id"], name="run_by_automation_state"),
            models.Index(
                fields=["correlation_id", "id"],
                name="run_by_correlation",
                condition=~Q(correlation_id=""),
            ),
            models.Index(
                fields=["error_code", "id"], name="run_by_error", condition=~Q(error_code="")
            ),
            # The manager's look for deadlines.
            models.Index(
                fields=["deadline_at"],
                name="run_deadline",
                condition=Q(deadline_at__isnull=False) & ~Q(state__in=_RUN_ENDED),
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["automation", "dedupe_key"],
                name="run_business_key_once",
                condition=Q(dedupe_key__isnull=False),
            ),
            _sound("run", "state", "pending", "finished_at"),
        ]

    def __str__(self) -> str:
        return f"{self.automation} {self.id}"

    @property
    def duration(self) -> timedelta | None:
        """Return how long the run took, or None while it has not ended."""
        if self.finished_at is None:
            return None
        return self.finished_at - (self.started_at or self.created_at)


class RunTag(models.Model):
    """A tag of a run, for the list of runs with it.

    The database keeps it beside `Run.tags` (migration `runtag`): nobody else writes it.
    """

    pk = models.CompositePrimaryKey("tag", "run_id")
    tag = models.TextField()
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="tag_rows", db_constraint=False
    )

    def __str__(self) -> str:
        return f"{self.tag} of {self.run_id}"


class StepRun(models.Model):
    """One execution of a step in a run; a mapped step has one per item, beside its planner.

    Ids fall along the graph: a parent's id is above its successors'. Whoever locks several rows of
    a run takes them by descending id, so that no two transactions wait for each other.
    """

    KINDS = [("step", "step"), ("map", "map")]

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        Run,
        on_delete=models.CASCADE,
        related_name="step_runs",
        db_index=False,
        db_constraint=False,
    )
    key = models.CharField(max_length=200)
    map_index = models.IntegerField(default=UNMAPPED)
    kind = models.CharField(max_length=4, choices=KINDS, default="step")
    lane = models.CharField(max_length=63)
    queue = models.CharField(max_length=63)
    state = models.CharField(max_length=10, choices=_choices(StepState))
    #: Parents that do not yet satisfy the join.
    pending = models.IntegerField()
    priority = models.SmallIntegerField(default=0)
    ready_at = models.DateTimeField(null=True, blank=True)
    dispatched_at = models.DateTimeField(null=True, blank=True)
    dispatches = models.SmallIntegerField(default=0, help_text="Sent this often since it was ready")
    attempt = models.IntegerField(default=0)
    failures = models.SmallIntegerField(default=0, help_text="Since the last requeue")
    crashes = models.SmallIntegerField(default=0, help_text="Workers lost since the last requeue")
    claim = models.UUIDField(null=True, blank=True)
    worker = models.CharField(max_length=255, blank=True, default="")
    #: A worker that held it beside others was lost: it is sent and claimed by itself from now on,
    #: so that the next loss can be told to be its own.
    alone = models.BooleanField(default=False, db_default=False)
    next_at = models.DateTimeField(null=True, blank=True, help_text="Not before: retry backoff")
    cancel_requested = models.BooleanField(default=False)
    error_code = models.CharField(max_length=100, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # Dispatcher: what must be sent, per lane, by priority and age.
            models.Index(
                fields=["lane", "-priority", "ready_at"],
                name="steprun_ready",
                condition=Q(state="ready"),
            ),
            # Dispatcher: which runs have something ready, past those that are held.
            models.Index(
                fields=["lane", "run", "-priority", "ready_at"],
                name="steprun_ready_of_run",
                condition=Q(state="ready"),
            ),
            # Planners are in a department's lane and in a queue of their own: what of them waits
            # is found without reading what the department has waiting.
            models.Index(
                fields=["dispatched_at"],
                name="steprun_at_orchestrator",
                condition=Q(queue="orchestrator", state__in=["ready", "queued"]),
            ),
            # Reaper: sent and not claimed; concurrency count of a lane.
            models.Index(
                fields=["lane", "dispatched_at"],
                name="steprun_in_flight",
                condition=Q(state__in=["queued", "running"]),
            ),
            # Timers: backoff that has run out.
            models.Index(
                fields=["next_at"], name="steprun_retry_wait", condition=Q(state="retry_wait")
            ),
        ]
        constraints = [
            # Also the way from a step to its successors and to its parents' outputs.
            models.UniqueConstraint(
                fields=["run", "key", "map_index"], name="steprun_once_per_run"
            ),
            _sound("steprun", "state", "pending", "attempt", "failures", "claim", "finished_at"),
        ]

    def __str__(self) -> str:
        return self.key if self.map_index == UNMAPPED else f"{self.key}[{self.map_index}]"


class Lease(models.Model):
    """Who holds a claim and until when, on the database's clock. Ended claims have no row."""

    claim = models.UUIDField(primary_key=True)
    worker = models.CharField(max_length=255)
    expires_at = models.DateTimeField()
    claimed_at = models.DateTimeField(db_default=Now())
    #: The StepRuns that were claimed together: the way from a lost claim to its rows, which are of
    #: the same runs (what the holder has gone on with is). Empty from workers that do not write it.
    step_run_ids = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    #: No renewal reaches beyond this: a step that hangs beside a live heartbeat ends all the same.
    deadline_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.claim} held by {self.worker}"


class StepInput(models.Model):
    """The item a mapped StepRun works on: {parameter: value}."""

    step_run = models.OneToOneField(
        StepRun,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="item",
        db_constraint=False,
    )
    value = models.JSONField()

    def __str__(self) -> str:
        return f"input of {self.step_run_id}"


class StepOutput(models.Model):
    """What a succeeded StepRun returned."""

    step_run = models.OneToOneField(
        StepRun,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="output",
        db_constraint=False,
    )
    value = models.JSONField(null=True)
    #: The ArtifactRef of the JSON when it is over 64 KiB; `value` is null then.
    ref = models.JSONField(null=True)

    def __str__(self) -> str:
        return f"output of {self.step_run_id}"
