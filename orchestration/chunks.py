"""Run what one message names, with patience for the database: without it no other does better."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from engine import execution
from orchestration import connections

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A worker that cannot reach the database keeps its message for so long; then the reaper finds it.
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.2


def execute(*, step_run_ids: Sequence[int], worker: str, queue: str) -> None:
    """Try the StepRuns of a message, and what they lead to in the same queue for a slice of time.

    Trying again is safe whatever had happened: the token is the same, so what the first try had
    claimed is found, and a StepRun that was claimed by another cannot be claimed twice.
    """
    claim = uuid.uuid4()
    deadline = time.monotonic() + PATIENCE_SECONDS
    again = False
    while True:
        connections.mend()
        try:
            execution.execute(
                step_run_ids=step_run_ids, worker=worker, queue=queue, claim=claim, again=again
            )
        except connections.DATABASE_ERRORS:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
            again = True
        else:
            return
