"""What orchestration remembers of the broker."""

from __future__ import annotations

from django.db import models


class BrokerEpoch(models.Model):
    """The broker's memory as last seen: a changed token means that messages may be lost."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    token = models.UUIDField()
    server_run_id = models.CharField(max_length=64)
    epoch = models.IntegerField(default=1)
    since = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="brokerepoch_single_row", condition=models.Q(id=1))
        ]

    def __str__(self) -> str:
        return f"epoch {self.epoch} since {self.since:%F %T}"
