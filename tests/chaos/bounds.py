"""How fast the platform must be back, and the line that says how fast it was.

A bound is a sum of named terms, taken from the product's own constants where it has them: what the
suite runs with is what is judged. The table is that of the crash points (tests/chaos/README.md).
"""

from __future__ import annotations

from django.conf import settings

from engine import policies
from orchestration.manager.dispatcher import Dispatcher
from orchestration.manager.loop import STANDBY_SECONDS
from orchestration.manager.lost_messages import SURE_SECONDS
from orchestration.manager.reaper import Reaper
from orchestration.manager.timers import Timers
from tests.acceptance.stack import LEASE_SECONDS

LEASE = float(LEASE_SECONDS)
REAPER = Reaper.interval
#: Out of the backoff, and sent.
TIMER, DISPATCHER = Timers.interval, Dispatcher.interval
BACKOFF = policies.crash_delay(crashes=1)
STANDBY = STANDBY_SECONDS
#: From the death to the next attempt, when only the lease tells.
BY_LEASE = {
    "lease": LEASE,
    "reaper": REAPER,
    "backoff": BACKOFF,
    "timer": TIMER,
    "dispatcher": DISPATCHER,
}
#: A message that is nowhere: patience, its queue and every worker asked twice, sent again.
LOST_MESSAGE = {
    "patience": settings.LOST_MESSAGE_SECONDS,
    "first look": REAPER,
    "workers speak": SURE_SECONDS,
    "second look": REAPER,
    "dispatcher": DISPATCHER,
    "delivery": 0.25,
}


def within(point: str, seconds: float, *, table: str, **terms: float) -> None:
    """Print how long a recovery took beside its bound; fail when it took longer."""
    bound = sum(terms.values())
    text = " + ".join(f"{name.replace('_', ' ')} {value:g} s" for name, value in terms.items())
    print(f"\npoint {point}: {seconds:.2f} s (bound: {text}; table: {table})")
    assert seconds <= bound, f"point {point}: {seconds:.2f} s, allowed are {bound:g} s"
