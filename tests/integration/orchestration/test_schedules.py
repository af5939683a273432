"""The manager's loop for schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import connection

from departments import schedules
from departments.models import Schedule
from orchestration.manager.schedules import Schedules
from tests.eventually import eventually
from tests.integration.orchestration.conftest import in_thread

LATE_SECONDS = 1.0


def test_loop__acts_on_what_is_due_within_a_second_and_moves_it_on(platform, stop):
    made = schedules.create(
        name="yearly", automation="lab.squares", cron="0 0 1 1 *", actor="ann", input={"count": 1}
    )
    planned = made.next_fire_at
    loop = Schedules(stop=stop)
    thread = in_thread(loop)
    eventually(lambda: loop.state == "working", within=5)
    late = []
    for number in range(6):
        # Every tenth of the interval once: the look for what is due is not in step with the test.
        due_at = datetime.now(UTC) + timedelta(seconds=0.3 + number / 12)
        Schedule.objects.update(next_fire_at=due_at)
        eventually(lambda: Schedule.objects.get().next_fire_at == planned, within=5)
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            late.append((cursor.fetchone()[0] - due_at).total_seconds())
    stop.set()
    thread.join(5)
    print(
        f"\nmoved on {min(late):.2f} to {max(late):.2f} s after its time (bound {LATE_SECONDS} s)"
    )
    assert 0 <= min(late) <= max(late) <= LATE_SECONDS
