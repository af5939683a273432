"""One of everything that belongs to a department, for the tables of who gets where."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.utils import timezone

from departments import schedules
from engine import artifacts, runs
from engine.access import sealing
from engine.models import (
    Artifact,
    DeadLetter,
    Effect,
    IncomingHook,
    StepRun,
    WebhookDelivery,
    WebhookEndpoint,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Things:
    """One of everything, of one department."""

    def __init__(self, department: str, automation: str) -> None:
        self.department, self.automation = department, automation
        now = timezone.now()
        run_id = runs.submit(automation=automation, input={}, trigger="api", tags=["m"]).run_id
        step = StepRun.objects.filter(run_id=run_id).first()
        of_step = {"run_id": run_id, "step_run": step}
        self.run = str(run_id)
        self.letter = DeadLetter.objects.create(
            **of_step,
            department=department,
            automation=automation,
            step=step.key,
            map_index=-1,
            error_code="odd",
            attempts=1,
            crashes=0,
            created_at=now,
        ).pk
        self.effect = Effect.objects.create(
            **of_step, name="call", key="k", state="unknown", attempt=1, planned_at=now, sent_at=now
        ).pk
        ref = artifacts.put(name="a.txt", content=b"hello", media_type="text/plain")
        self.artifact = Artifact.objects.create(
            id=uuid.uuid4(),
            run_id=run_id,
            name=ref.name,
            sha256=ref.sha256,
            size=ref.size,
            media_type=ref.media_type,
            created_at=now,
        ).pk
        self.schedule = schedules.create(
            name=f"of-{department}", automation=automation, cron="0 2 * * *", actor="ann"
        ).pk
        endpoint = WebhookEndpoint.objects.create(
            url="https://93.184.215.14/told",
            department=department,
            secret=sealing.seal(SECRET, key=settings.MASTER_KEY),
            created_at=now,
        )
        self.webhook = endpoint.pk
        self.delivery = WebhookDelivery.objects.create(
            endpoint=endpoint,
            message_id="msg_1",
            event_id="event-1",
            event_type="run.completed",
            department=department,
            payload={},
            status="failed",
            next_at=now,
            created_at=now,
            finished_at=now,
        ).pk
        self.hook = IncomingHook.objects.create(
            token_hash=department,
            automation=automation,
            department=department,
            secret=endpoint.secret,
            created_at=now,
        ).pk
