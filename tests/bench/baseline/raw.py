"""R: plain Celery. A run is a chain of messages; nothing is kept anywhere but in Redis."""

from __future__ import annotations

from celery import Celery

from tests.bench import work
from tests.bench.baseline import broker

app = Celery("raw", set_as_current=False)
app.conf.update(broker.configuration("raw"))


@app.task
def number(position: int, last: int) -> None:
    """Compute one of a chain of steps, then send the next."""
    work.fib(work.FIB)
    if position < last:
        number.delay(position + 1, last)
    else:
        work.say_now()


@app.task
def nothing(position: int, last: int) -> None:
    """Be one of a chain of steps that do nothing."""
    if position < last:
        nothing.delay(position + 1, last)
    else:
        work.say_now()


@app.task
def item(run: str, count: int) -> None:
    """Be one of many; the last of them sends the join."""
    if work.reports().incr(run) == count:
        join.delay()


@app.task
def join() -> None:
    """Come after all items."""
    work.say_now()


class Side:
    """R as the driver sees it."""

    def chain(self, steps: int) -> None:
        """Begin W1."""
        number.delay(1, steps)

    def fan(self, run: str, count: int) -> None:
        """Begin W2."""
        for _ in range(count):
            item.delay(run, count)

    def short(self, steps: int) -> None:
        """Begin one run of W3, or of W4 with one step."""
        nothing.delay(1, steps)

    def quiet(self) -> bool:
        """Tell whether everything has ended: it has when the last step has spoken."""
        return True

    def committed(self, since: float) -> float | None:  # noqa: ARG002 - nothing is kept
        """Return when the last run was stored as ended: never."""
        return None
