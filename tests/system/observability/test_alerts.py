"""Real faults meet real alerts: the right one speaks, nothing else does, and it falls silent.

Prometheus' windows are a 60th of the committed ones (`rendering`): five minutes are five seconds.
Real durations are promtool's affair (`test_rules`). What people are told is asked of Alertmanager,
after its inhibition rules.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from tests.eventually import eventually
from tests.system.observability import faults

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: For so long nothing else may be said beside the right alert: ten minutes of the real rules.
WATCH_SECONDS = 10
CRITICAL, WARNING = "critical", "warning"


@pytest.fixture
def quiet(watched, monitoring):
    """Nothing is wrong: that is where each fault begins, and where it must lead back to."""

    def silent() -> bool:
        return watched.is_ready() and not monitoring.told() and not monitoring.firing()

    eventually(silent, within=90, what="no alert before the fault")
    yield
    eventually(silent, within=120, what="no alert after the fault")


def reached(monitoring, *wanted: tuple[str, str], within: float) -> None:
    """Wait until people are told of exactly this."""
    try:
        eventually(lambda: monitoring.told() == set(wanted), within=within)
    except AssertionError:
        pytest.fail(f"told {monitoring.told()}, not {wanted}; fires: {monitoring.firing()}")


def alone(monitoring, *wanted: tuple[str, str], within: float = 60) -> None:
    """Wait until people are told of exactly this, and see that nothing else joins it."""
    reached(monitoring, *wanted, within=within)
    until = time.monotonic() + WATCH_SECONDS
    seen = [set(wanted)]

    def watched_on() -> bool:
        seen.append(monitoring.told())
        return time.monotonic() > until

    eventually(watched_on, within=WATCH_SECONDS + 5)
    assert set().union(*seen) == set(wanted)
    assert set(wanted) in seen[-3:], "it speaks for as long as the fault lasts"


def test_manager_killed(watched, monitoring, quiet):
    with faults.requests(watched, "/runs?limit=5"), faults.gone(watched, "manager"):
        alone(monitoring, ("ManagerDown", CRITICAL))


def test_redis_stopped(watched, monitoring, quiet):
    with faults.requests(watched, "/runs?limit=5"), faults.gone(watched, "redis"):
        alone(monitoring, ("RedisDown", CRITICAL))
        assert ("GaugesMissing", CRITICAL) in monitoring.firing(), "inhibited, not unseen"


def test_database_stopped(watched, monitoring, quiet):
    with faults.requests(watched, "/runs?limit=5"), faults.gone(watched, "postgres"):
        alone(monitoring, ("DatabaseDown", CRITICAL))
        assert ("GaugesMissing", CRITICAL) in monitoring.firing(), "inhibited, not unseen"


def test_web_killed(watched, monitoring, quiet):
    with faults.requests(watched, "/runs?limit=5"), faults.gone(watched, "web"):
        alone(monitoring, ("WebDown", CRITICAL))


def test_worker_gone(watched, monitoring, quiet):
    with faults.gone(watched, "worker"):
        for _ in range(3):
            watched.submit("lab.squares", count=2)
        alone(monitoring, ("NoWorkers", CRITICAL))
        assert {one["queue"] for one in monitoring.told_labels()} == {"lab"}


def test_slow_api(watched, monitoring, quiet):
    with ExitStack() as hurt:
        hurt.enter_context(faults.slow_departments(watched))
        hurt.enter_context(faults.requests(watched, "/departments", threads=4))
        alone(monitoring, ("HighAPILatency", CRITICAL))
        assert ("HighAPILatency", WARNING) in monitoring.firing(), "inhibited by the critical one"


def test_dead_letters(watched, monitoring, quiet, tmp_path):
    run_id = watched.submit("lab.fragile_fail", folder=str(tmp_path))
    watched.reaches(run_id, "failed")
    reached(monitoring, ("DeadLettersGrowing", WARNING), within=30)
    assert [one["department"] for one in monitoring.told_labels()] == ["lab"]
    # They stay open, and grow no more.
    assert watched.rows("SELECT count(*) FROM engine_deadletter WHERE state = 'open'")[0][0] >= 1
