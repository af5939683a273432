"""Slow networks: everything still works, at a rate that is printed and not judged."""

from __future__ import annotations

import time

import pytest

from engine import runs
from engine.models import Run
from tests.chaos.network.platform import UNTIL_QUIET
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)


#: How many steps are tried at each length of a round trip, in milliseconds.
COUNTS = {2: 200, 50: 30}


def test_latency__every_run_ends_and_each_effect_stands_once(
    processes, database_proxy, redis_proxy, ledger
):
    done = 0
    for milliseconds, count in COUNTS.items():
        for proxy in (database_proxy, redis_proxy):
            proxy.delay = milliseconds / 2000  # half of it each way
        began = time.monotonic()
        values = {"count": count}
        run_id = runs.submit(automation="lab.booking", input=values, trigger="command").run_id
        eventually(lambda: Run.objects.get(pk=run_id).state == "succeeded", within=UNTIL_QUIET)  # noqa: B023 - called at once
        rate = count / (time.monotonic() - began)
        print(f"\nround trips {milliseconds} ms longer: {rate:.1f} writing steps per second")
        done += count
        assert len(ledger()) == done
    assert processes.worker.poll() is None
