"""No worker on a queue with work: found, said once, shown everywhere, and its end as well."""

from __future__ import annotations

import signal
import time

import pytest
from django.utils import timezone

from config import dependencies
from engine import runs, why
from engine.models import WorkerPresence
from orchestration.manager import unserved
from tests.eventually import eventually
from tests.integration.orchestration.processes import is_working, manager, page, worker

SHOWN_SECONDS = 30


@pytest.fixture
def said(monkeypatch):
    """What was logged, as (event, queue)."""
    found = []

    class Log:
        def warning(self, event, *, queue, **_facts):
            found.append((event, queue))

    monkeypatch.setattr(unserved, "log", Log())
    monkeypatch.setattr(unserved, "PATIENCE_SECONDS", 0.2)
    return found


def serve(*queues: str) -> None:
    WorkerPresence.objects.create(
        hostname="w@h",
        queues=list(queues),
        pid=1,
        concurrency=1,
        started_at=timezone.now(),
        seen_at=timezone.now(),
    )


def test_unserved__is_said_once_and_its_end_once(platform, submitted, said):
    looking = unserved.Unserved()

    def looked() -> list:
        looking.look()
        return said

    looking.look()
    assert said == [], "a worker that is being restarted is no alarm"
    eventually(looked, within=2)
    looking.look()
    assert said == [("queue_without_worker", "lab")]
    serve("lab")
    looking.look()
    looking.look()
    assert said[1:] == [("queue_without_worker_ended", "lab")]


def test_unserved__a_queue_without_work_or_with_a_worker_is_no_alarm(platform, submitted, said):
    serve("lab")
    looking = unserved.Unserved()
    looking.look()
    looking._since = dict.fromkeys(looking._since, 0.0)
    looking.look()
    assert said == []


@pytest.mark.slow
def test_worker__killed_is_missed_by_everybody_within_thirty_seconds(started, platform):
    boss = manager(started)
    hands = worker(started)
    eventually(lambda: is_working(boss), within=20)
    eventually(lambda: 'workers_online{queue="lab"} 1.0' in page(boss, "/metrics")[1], within=30)
    assert dependencies.probe_workers().details["queues"]["lab"] == 1
    hands.send_signal(signal.SIGKILL)
    hands.wait(5)
    began = time.monotonic()
    run_id = runs.submit(automation="lab.squares", input={"count": 1}, trigger="command").run_id
    shown: dict[str, float] = {}
    ways = {
        "why": lambda: "no_worker" in {s.reason.cause for s in why.explain(run_id=run_id).steps},
        "/health": lambda: dependencies.probe_workers().details["queues"]["lab"] == 0,
        "gauge": lambda: 'workers_online{queue="lab"} 0.0' in page(boss, "/metrics")[1],
        "log": lambda: "queue_without_worker" in boss.log.read_text(),
    }

    def all_shown() -> bool:
        for name, way in ways.items():
            if name not in shown and way():
                shown[name] = time.monotonic() - began
        return len(shown) == len(ways)

    eventually(all_shown, within=SHOWN_SECONDS, what=shown)
    print(
        "\nno worker on a queue with work, shown after: ", {k: round(v) for k, v in shown.items()}
    )
    worker(started, name="next")
    eventually(lambda: "queue_without_worker_ended" in boss.log.read_text(), within=20)
