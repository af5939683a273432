"""What may run where. The engine owns these rows; departments write them through `engine.lanes`."""

from __future__ import annotations

from django.db import models


class Lane(models.Model):
    """The way of one department through the workers: its queue, whether it is open, how wide."""

    slug = models.CharField(max_length=63, primary_key=True, help_text="The department's slug")
    queue = models.CharField(max_length=63)
    paused = models.BooleanField(default=False)
    max_concurrency = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most steps queued or running at once; empty: no limit"
    )

    def __str__(self) -> str:
        return self.slug


class WorkerPresence(models.Model):
    """A worker process that consumes queues, as it last said itself; written by orchestration."""

    #: One that said nothing for this long counts as gone: it speaks every ten seconds at least, so
    #: two words are missing. With the pace of those who look, everybody knows within 30 s.
    ONLINE_SECONDS = 22.0

    hostname = models.CharField(max_length=255, primary_key=True)
    queues = models.JSONField(default=list)
    pid = models.IntegerField()
    concurrency = models.IntegerField()
    busy = models.IntegerField(
        default=0, db_default=0, help_text="Processes of the worker that run a step"
    )
    #: StepRun ids it has fetched and not begun, in the order in which it will begin them.
    held = models.JSONField(default=list, db_default=[])
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = "worker"

    def __str__(self) -> str:
        return self.hostname
