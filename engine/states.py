"""States and the only legal moves between them (DESIGN §3). Everything else is refused."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Where a run is."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    BLOCKED = "blocked"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class StepState(StrEnum):
    """Where one execution of a step in a run is."""

    WAITING = "waiting"
    READY = "ready"
    QUEUED = "queued"
    RUNNING = "running"
    RETRY_WAIT = "retry_wait"
    SLEEPING = "sleeping"
    AWAITING = "awaiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


R, S = RunState, StepState

RUN_TERMINAL = frozenset({R.SUCCEEDED, R.FAILED, R.CANCELLED, R.TIMED_OUT})
STEP_TERMINAL = frozenset({S.SUCCEEDED, S.FAILED, S.DEAD, S.CANCELLED, S.SKIPPED})
#: States of a run in which its steps may be claimed. `blocked` runs go on beside the dead step.
RUN_CLAIMABLE = frozenset({R.PENDING, R.RUNNING, R.BLOCKED})
#: States of a step that nobody holds and nothing has ended: cancel ends them at once.
STEP_UNCLAIMED = frozenset({S.WAITING, S.READY, S.QUEUED, S.RETRY_WAIT, S.SLEEPING, S.AWAITING})

RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    R.PENDING: frozenset({R.RUNNING, R.PAUSED, R.CANCELLING}),
    R.RUNNING: frozenset({R.SUCCEEDED, R.PAUSED, R.BLOCKED, R.CANCELLING}),
    R.PAUSED: frozenset({R.RUNNING, R.PENDING, R.BLOCKED, R.SUCCEEDED, R.CANCELLING}),
    R.BLOCKED: frozenset({R.RUNNING, R.PAUSED, R.CANCELLING}),
    R.CANCELLING: frozenset({R.CANCELLED, R.FAILED, R.TIMED_OUT}),
    # An operator's requeue begins a new generation; nothing else leaves a terminal state.
    # `blocked`: another step of it is dead as well.
    R.FAILED: frozenset({R.RUNNING, R.BLOCKED}),
    R.SUCCEEDED: frozenset(),
    R.CANCELLED: frozenset(),
    R.TIMED_OUT: frozenset(),
}

STEP_TRANSITIONS: dict[StepState, frozenset[StepState]] = {
    S.WAITING: frozenset({S.READY, S.QUEUED, S.RUNNING, S.CANCELLED, S.SKIPPED}),
    S.READY: frozenset({S.QUEUED, S.RUNNING, S.CANCELLED}),
    S.QUEUED: frozenset({S.RUNNING, S.READY, S.SUCCEEDED, S.CANCELLED}),
    S.RUNNING: frozenset(
        {S.SUCCEEDED, S.FAILED, S.DEAD, S.RETRY_WAIT, S.CANCELLED, S.SLEEPING, S.AWAITING}
    ),
    S.RETRY_WAIT: frozenset({S.READY, S.CANCELLED}),
    S.SLEEPING: frozenset({S.READY, S.CANCELLED}),
    S.AWAITING: frozenset({S.READY, S.SUCCEEDED, S.CANCELLED}),
    # The two exits below are the operator's requeue (a new generation).
    S.DEAD: frozenset({S.READY}),
    S.CANCELLED: frozenset({S.WAITING, S.READY}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.SKIPPED: frozenset(),
}
