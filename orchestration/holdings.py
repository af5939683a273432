"""What this worker's parent has fetched from its queues and not yet seen done."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from celery.worker import state

from orchestration import messages
from orchestration.presence import MAX_HELD
from orchestration.task_base import EngineRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from celery.worker.request import Request


class Holdings(NamedTuple):
    """`busy` processes run a message; `waiting` messages wait for one; `held` names their steps."""

    busy: int
    waiting: int
    held: tuple[int, ...]
    cut: bool


def current() -> Holdings:
    """Return what this process holds now, the steps in the order in which they will begin.

    The steps of a running message come first: its child runs them one after the other and the
    parent does not see how far it is. Costs 1 µs a StepRun; there is a message a process at most.
    """
    # Of the two sets neither is ordered, and the dict that is forgets what outlives a connection.
    active = _in_order(state.active_requests)
    running = {request.id for request in active}
    waiting = [one for one in _in_order(state.reserved_requests) if one.id not in running]
    found = _step_run_ids([*active, *waiting])
    held = tuple(islice(found, MAX_HELD))
    return Holdings(len(active), len(waiting), held, next(found, None) is not None)


def _in_order(requests: Iterable[Request]) -> list[EngineRequest]:
    ours = [request for request in requests if isinstance(request, EngineRequest)]
    return sorted(ours, key=lambda request: request.number)


def _step_run_ids(requests: list[EngineRequest]) -> Iterator[int]:
    for request in requests:
        if request.name == messages.EXECUTE:
            yield from request.kwargs.get("step_run_ids", ())
