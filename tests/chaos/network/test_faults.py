"""Each fault of each dependency's network, under load: all go on within 25 s, by themselves."""

from __future__ import annotations

import time

import pytest

from tests.chaos.network.platform import now
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(170)
#: How long a dependency refuses connections, and how long it swallows what is sent, in seconds.
REFUSED, SWALLOWED = 4.0, 10.0


@pytest.fixture(params=["database", "redis"])
def proxy(request, database_proxy, redis_proxy):
    """The proxy before the dependency that has the faults."""
    found = database_proxy if request.param == "database" else redis_proxy
    found.name = request.param
    return found


def last(seconds: float) -> None:
    """Let a fault last for a while."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, within=seconds + 1)


def test_faults__one_after_the_other__and_the_same_processes_go_on(processes, proxy):
    processes.feed()
    since = now()
    proxy.reset()
    processes.check_recovery(f"{proxy.name} reset", since=since)

    proxy.refuse()
    last(REFUSED)
    since = now()
    proxy.heal()
    processes.check_recovery(f"{proxy.name} refused {REFUSED:g} s", since=since)

    # New connections can be made all the time: whoever still waits, waits in vain.
    since = now()
    proxy.forget()
    processes.check_recovery(f"{proxy.name} half-open", since=since)

    proxy.blackhole()
    last(SWALLOWED)
    since = now()
    proxy.heal()
    processes.check_recovery(f"{proxy.name} blackholed {SWALLOWED:g} s", since=since)
    processes.check_end()
