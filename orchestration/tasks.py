"""The tasks: adapters between the broker and the domain, nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import shared_task

from orchestration import chunks, dead_letters, messages

if TYPE_CHECKING:
    from orchestration.task_base import EngineTask


@shared_task(bind=True, name=messages.EXECUTE)  # type: ignore[arg-type] # self is our base
def execute(self: EngineTask, /, *, step_run_ids: list[int]) -> None:
    """Try to claim and run the named StepRuns."""
    queue = (self.request.delivery_info or {}).get("routing_key") or ""
    task_id = self.request.id or ""
    chunks.execute(step_run_ids=step_run_ids, worker=self.worker, queue=queue, task_id=task_id)


@shared_task(name=messages.NOTIFY_DEAD_LETTER)
def notify_dead_letter(*, dead_letter_id: int) -> None:
    """Tell people about a dead letter, once."""
    dead_letters.notify(dead_letter_id=dead_letter_id)
