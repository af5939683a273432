"""The platform as the driver sees it: runs are submitted through the service layer, one by one."""

from __future__ import annotations

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings.local"

import django

django.setup()

from django.conf import settings  # noqa: E402 - they are named above
from django.db import connection  # noqa: E402 - same

from engine import runs  # noqa: E402 - same
from engine.postgresql import bounded  # noqa: E402 - same
from tests.bench.catalog import floor  # noqa: E402 - same

# As every process of ours that lives long.
bounded.bound_answers(settings.DATABASE_ANSWER_SECONDS)

AUTOMATIONS = {1: "floor.single", 3: "floor.short"}


class Side:
    """The platform as the driver sees it."""

    def chain(self, steps: int) -> None:
        """Begin W1."""
        if steps != floor.CHAIN:
            raise ValueError(f"the chain has {floor.CHAIN} steps")
        _submit("floor.chain", {})

    def fan(self, run: str, count: int) -> None:  # noqa: ARG002 - a run has an id of its own here
        """Begin W2."""
        _submit("floor.fan", {"numbers": list(range(count))})

    def short(self, steps: int) -> None:
        """Begin one run of W3, or of W4 with one step."""
        _submit(AUTOMATIONS[steps], {})

    def quiet(self) -> bool:
        """Tell whether every run has ended."""
        return not _asked(
            "SELECT EXISTS (SELECT FROM engine_run"
            " WHERE state IN ('pending', 'running', 'paused', 'blocked', 'cancelling'))"
        )

    def committed(self, since: float) -> float | None:
        """Return when the last run begun since then was stored as ended."""
        statement = (
            "SELECT extract(epoch FROM max(finished_at))::float8 FROM engine_run"
            " WHERE created_at >= to_timestamp(%s)"
        )
        return _asked(statement, since)


def _submit(automation: str, values: dict) -> None:
    runs.submit(automation=automation, input=values, trigger="command", created_by="bench")


def _asked(statement: str, *values: float):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]
