"""Run the StepRuns one message names, one after the other, for as long as that is quick.

A message per step would make the worker's parent process the ceiling (0.8 ms of it a message). Each
StepRun still has a claim, a lease and a transaction of its own: a lost worker costs one step.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine import execution
from engine.publishing import ReadyStep
from orchestration import connections, publisher

if TYPE_CHECKING:
    from collections.abc import Sequence

#: After so much work the rest of a message goes back to the queue, where an idle worker finds it.
SLICE_SECONDS = 0.25
#: A worker that cannot reach the database keeps its message for so long; then the reaper finds it.
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.2


def execute(*, step_run_ids: Sequence[int], worker: str, queue: str) -> None:
    """Try the StepRuns in order; when they turn out to be slow, send the rest again, singly.

    The rest is still queued and unclaimed, so the second message is as good as the first. While a
    slow step runs the rest waits with it; the reaper sends it again after its patience.
    """
    began = time.monotonic()
    for position, step_run_id in enumerate(step_run_ids):
        if position and time.monotonic() - began > SLICE_SECONDS:
            for rest in step_run_ids[position:]:
                publisher.publisher.publish([ReadyStep(rest, queue)])
            return
        _execute(step_run_id, worker)


def _execute(step_run_id: int, worker: str) -> None:
    """Try one StepRun, with patience for the database: without it no other message does better.

    Trying again is safe whatever had happened: a StepRun that was claimed cannot be claimed twice.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        connections.mend()
        try:
            execution.execute(step_run_ids=[step_run_id], worker=worker)
        except connections.DATABASE_ERRORS:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return
