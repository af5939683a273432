"""What real processes say of steps that hang and of queues that nobody serves."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from engine import runs, why
from engine.causes import WaitCause
from engine.models import RunEvent, StepRun
from tests.eventually import eventually
from tests.integration.orchestration.processes import folder, manager, state, worker


@pytest.mark.slow
def test_hung_step__of_a_real_worker_is_ended_by_the_database(started, platform, tmp_path):
    manager(started)
    worker(started, LEASE_SECONDS="3", CANCEL_GRACE_SECONDS="1")
    steps = Path(folder(tmp_path))
    found = runs.submit(
        automation="lab.frozen", input={"folder": str(steps)}, trigger="command"
    ).run_id
    began = time.monotonic()
    eventually((steps / "pid").exists, within=20, what="the step hangs")
    victim = psutil.Process(int((steps / "pid").read_text()))
    # Its heart beats on: the lease is prolonged up to the deadline, and not beyond.
    event = eventually(
        lambda: RunEvent.objects.filter(run_id=found, kind="step.retried").first(), within=30
    )
    print(f"hung step of 2 s and 10 s of grace ended after {time.monotonic() - began:.1f} s")
    assert event.data["error_code"] == "timeout"
    row = StepRun.objects.get(run_id=found, key="frozen")
    assert (row.failures, row.crashes) == (1, 0)
    eventually(lambda: state(found) == "succeeded", within=20)
    # Fenced, it is no use any more: its heartbeat ends the process after the grace.
    eventually(lambda: not victim.is_running(), within=20, what="the end of the hung process")


@pytest.mark.slow
def test_queue_without_a_worker__is_told_within_thirty_seconds(started, platform):
    manager(started)
    began = time.monotonic()
    found = runs.submit(automation="lab.squares", input={"count": 1}, trigger="command").run_id
    (reason,) = [step for step in why.explain(run_id=found).steps if step.step == "numbers"]
    assert reason.reason.cause == WaitCause.NO_WORKER
    event = eventually(
        lambda: RunEvent.objects.filter(run_id=found, kind="run.waiting").first(), within=30
    )
    print(f"no worker: in the history after {time.monotonic() - began:.1f} s (bound 30)")
    assert (event.data["reason_code"], event.data["queue"]) == ("no_worker", "lab")
    worker(started)
    eventually(lambda: state(found) == "succeeded", within=30)
    event = eventually(
        lambda: RunEvent.objects.filter(run_id=found, kind="run.going_on").first(), within=10
    )
    assert event.data["waited_seconds"] > 5
