"""The alarm of a worker's parent where the pool has no children."""

from __future__ import annotations

import subprocess
import sys

SOLO = """
import signal, types, django
django.setup()
from celery.concurrency.solo import TaskPool
from config import celery
from orchestration.alarm import alarm
alarm.install(worker=types.SimpleNamespace(exitcode=None), grace_seconds=0.2)
TaskPool(1, app=celery.app, initargs=(celery.app, "w@h"))
alarm.tick()
print(signal.getitimer(signal.ITIMER_REAL)[0], flush=True)
alarm.end_within_grace()
while True:
    signal.pause()
"""


def test_alarm__in_a_pool_without_children_a_long_step_is_no_hang_and_the_grace_stays():
    ended = subprocess.run(
        [sys.executable, "-c", SOLO], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.stdout.split()[0] == "0.0", "nothing watches a loop that its steps stop"
    assert ended.returncode == 75, "the grace ends it with its own code, not by SIGALRM"
