"""Who waits for whom: departments that share workers, long steps and short ones, priorities."""

from __future__ import annotations

import time

import pytest
from django.db import connection

from engine import runs
from engine.models import Run, StepRun
from tests.eventually import eventually
from tests.integration.orchestration.processes import is_working, manager, worker

QUEUES = "freight,courier,orchestrator"
SAMPLES = 40

pytestmark = pytest.mark.slow


@pytest.fixture
def hands(started, platform):
    """A manager and one worker of two processes that serves both departments, warm."""
    boss = manager(started)
    worker(started, queues=QUEUES)
    eventually(lambda: is_working(boss), within=20)
    for _ in range(4):
        started_after("courier.letter", within=20)


def submit(automation: str, *, priority: int = 0, **given):
    return runs.submit(
        automation=automation, input=given, trigger="command", priority=priority
    ).run_id


def waited(run_id) -> float:
    """Return for how many seconds the run's only step waited, once it has begun."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM s.started_at - r.created_at)::float8 FROM engine_steprun s"
            " JOIN engine_run r ON r.id = s.run_id WHERE r.id = %s",
            [run_id],
        )
        return cursor.fetchone()[0]


def started_after(automation: str, *, within: float = 10.0, **given) -> float:
    run_id = submit(automation, **given)
    eventually(lambda: waited(run_id) is not None, within=within)
    return waited(run_id)


def shares(waits: list[float]) -> str:
    found = sorted(waits)
    p50, p95 = found[len(found) // 2], found[int(len(found) * 0.95)]
    return f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, longest {found[-1] * 1000:.0f} ms"


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_department__starts_at_once_while_another_drains_ten_thousand_steps(hands, seconds):
    waits: list[float] = []
    while len(waits) < SAMPLES:
        convoy = submit("freight.convoy", count=10_000, seconds=seconds)
        items = StepRun.objects.filter(run_id=convoy, map_index__gte=0)
        eventually(lambda items=items: items.filter(state="succeeded").exists(), within=30)
        while len(waits) < SAMPLES:
            wait = started_after("courier.letter")
            if not items.exclude(state="succeeded").exists():
                break  # it may have waited for nobody
            waits.append(wait)
        if seconds:
            runs.cancel(run_id=convoy, actor="test")
    print(f"\nbeside 10,000 steps of {seconds * 1000:.0f} ms: {shares(waits)}")
    assert sorted(waits)[int(len(waits) * 0.95)] < 0.2


def test_short_steps__are_never_stranded_behind_long_ones(started, platform):
    boss = manager(started)
    for name in ("one", "two"):
        worker(started, queues=QUEUES, name=name)
    eventually(lambda: is_working(boss), within=20)
    for _ in range(8):
        started_after("freight.load", within=20)
    waits: list[float] = []
    for _round in range(3):
        short, long = [], []
        for number in range(60):
            if number % 20 == 0:
                # Three of four processes are busy; what was sent with a long step sits behind it.
                long.append(submit("freight.load", seconds=5.0))
            short.append(submit("freight.load"))
        for run_id in short:
            eventually(lambda run_id=run_id: waited(run_id) is not None, within=10)
        waits += [waited(run_id) for run_id in short]
        for run_id in long:
            eventually(
                lambda run_id=run_id: Run.objects.get(pk=run_id).state == "succeeded", within=10
            )
    print(f"\n{len(waits)} short steps among steps of 5 s: {shares(waits)}")
    assert max(waits) < 1.0


@pytest.mark.parametrize("backlog", ["runs", "map"])
def test_priority__overtakes_a_backlog_of_the_same_department(hands, backlog):
    if backlog == "map":
        submit("freight.convoy", count=5_000, seconds=0.02)
    else:
        for _ in range(5_000):
            submit("freight.load", seconds=0.02)
    ahead = StepRun.objects.filter(lane="freight", priority=0)
    begun = ahead.filter(started_at__isnull=False)
    eventually(lambda: begun.count() > 100, within=30)
    waits = []
    for _ in range(5):
        before = time.monotonic()
        waits.append(started_after("freight.load", priority=50))
        assert time.monotonic() - before < 2.0
    left = ahead.filter(started_at__isnull=True).count()
    print(f"\nof priority 50 behind {left} others ({backlog}): {shares(waits)}")
    assert left > 2_000, "it did not overtake them"
    assert max(waits) < 1.0
