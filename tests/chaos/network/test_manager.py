"""A manager that is cut off keeps its sessions on the server; its standby does not wait for it."""

from __future__ import annotations

import time

import pytest

from engine import leases, runs
from engine.models import StepRun
from tests.chaos.network.platform import BOUND
from tests.eventually import eventually
from tests.integration.orchestration import processes as shared

pytestmark = pytest.mark.timeout(120)


def test_manager__cut_off_from_the_database_is_replaced(database_proxy, started):
    one = shared.manager(started, instance=0, DATABASE_URL=database_proxy.url)
    eventually(lambda: shared.is_working(one), within=30, what=one.log)
    two = shared.manager(started, instance=1)
    eventually(lambda: shared.loops(two) == {"working", "standby"}, within=30, what=two.log)
    began = time.monotonic()
    database_proxy.blackhole()
    eventually(lambda: shared.is_working(two), within=60, what=two.log)
    took = time.monotonic() - began
    print(
        f"\nmanager blackholed: its standby had every loop after {took:.1f} s (bound {BOUND:g} s)"
    )
    assert took <= BOUND
    run_id = runs.submit(automation="lab.squares", input={"count": 1}, trigger="command").run_id
    step = StepRun.objects.get(run_id=run_id, key="numbers")
    leases.hand_back(step_run_ids=[step.pk], reason="test")
    eventually(lambda: StepRun.objects.get(pk=step.pk).state == "queued", within=2)
    database_proxy.heal()
    began = time.monotonic()
    eventually(lambda: shared.loops(one) == {"working", "standby"}, within=60, what=one.log)
    print(
        f"the first stands by {time.monotonic() - began:.1f} s after the fault (bound {BOUND:g} s)"
    )
    assert time.monotonic() - began <= BOUND
    assert one.poll() is None
