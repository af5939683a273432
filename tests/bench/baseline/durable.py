"""F: plain Celery and the rows of a run, each step's start and end an update and a commit.

Naive durability: the state is kept and nothing recovers by it. Submission is one transaction: the
run's row and its steps' rows in one bulk insert, then the message.
"""

from __future__ import annotations

import os

from celery import Celery

from tests.bench import work
from tests.bench.baseline import broker

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.bench.baseline.settings"

app = Celery("durable", set_as_current=False)
app.conf.update(broker.configuration("durable"))
# Celery closes the connection after every task otherwise, which costs it two thirds of its rate.
app.conf.update({"CELERY_DB_REUSE_MAX": 10**9})

import django  # noqa: E402 - Celery's Django fixup looks for the variable first

django.setup()

from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from tests.bench.baseline.rows.models import Run, Step  # noqa: E402


def begin(step_id: int) -> None:
    """Keep that a step has begun."""
    Step.objects.filter(pk=step_id).update(state="running", started_at=timezone.now())


def end(step_id: int) -> None:
    """Keep that a step has ended."""
    Step.objects.filter(pk=step_id).update(state="succeeded", finished_at=timezone.now())


@app.task
def number(first: int, position: int, last: int) -> None:
    """Compute one of a chain of steps, then send the next."""
    begin(first + position)
    work.fib(work.FIB)
    if position == last:
        work.say_now()
    end(first + position)
    if position < last:
        number.delay(first, position + 1, last)


@app.task
def nothing(first: int, position: int, last: int) -> None:
    """Be one of a chain of steps that do nothing."""
    begin(first + position)
    if position == last:
        work.say_now()
    end(first + position)
    if position < last:
        nothing.delay(first, position + 1, last)


@app.task
def item(run: str, step_id: int, count: int, join_id: int) -> None:
    """Be one of many; the last of them sends the join."""
    begin(step_id)
    end(step_id)
    if work.reports().incr(run) == count:
        join.delay(join_id)


@app.task
def join(step_id: int) -> None:
    """Come after all items."""
    begin(step_id)
    work.say_now()
    end(step_id)


def planned(steps: int) -> list[int]:
    """Keep a run with its steps; return the steps' ids, in a row."""
    with transaction.atomic():
        run = Run.objects.create(created_at=timezone.now())
        made = Step.objects.bulk_create(Step(run=run, position=n) for n in range(steps))
    return [step.pk for step in made]


class Side:
    """F as the driver sees it."""

    def chain(self, steps: int) -> None:
        """Begin W1."""
        number.delay(planned(steps)[0] - 1, 1, steps)

    def fan(self, run: str, count: int) -> None:
        """Begin W2."""
        *items, last = planned(count + 1)
        for step_id in items:
            item.delay(run, step_id, count, last)

    def short(self, steps: int) -> None:
        """Begin one run of W3, or of W4 with one step."""
        nothing.delay(planned(steps)[0] - 1, 1, steps)

    def quiet(self) -> bool:
        """Tell whether every step's end is kept."""
        return not Step.objects.exclude(state="succeeded").exists()

    def committed(self, since: float) -> float | None:  # noqa: ARG002 - runs have no end here
        """Return when the last run was stored as ended: runs have no end here."""
        return None
