"""Run what one message names, with patience for the database: without it no other does better."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from engine import execution, spans
from orchestration import connections

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A worker that cannot reach the database keeps its message for so long; then the reaper finds it.
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.2


def execute(*, step_run_ids: Sequence[int], worker: str, queue: str, task_id: str = "") -> None:
    """Try the StepRuns of a message, and what they lead to in the same queue for a slice of time.

    Only the claim is tried again. Once something runs its errors are the engine's, with a longer
    patience; what it gives up its lease decides: a body must not run twice under one claim.
    """
    began = time.monotonic()
    held = _claimed(step_run_ids, worker)
    took = time.monotonic() - began
    parents = spans.received(held, queue=queue, task_id=task_id, took_seconds=took)
    execution.run(held, queue=queue, parents=parents)


def _claimed(step_run_ids: Sequence[int], worker: str) -> Sequence[Any]:
    """Claim, and claim again when the database went away: the token is the same each time.

    Returns what `execution.run` takes. What an earlier try had claimed is found, and nothing of
    anybody else's is taken.
    """
    claim = uuid.uuid4()
    deadline = time.monotonic() + PATIENCE_SECONDS
    again = False
    while True:
        connections.mend()
        try:
            return execution.take(
                step_run_ids=step_run_ids, worker=worker, claim=claim, again=again
            )
        except connections.DATABASE_ERRORS:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
            again = True
