"""What the manager puts right by itself is counted once, logged, and shown."""

from __future__ import annotations

import json
import logging

import pytest
from django.db import connection
from prometheus_client import REGISTRY

from engine import leases, runs
from engine.models import DeadLetter, Lease, StepRun
from orchestration import breakers, presence, publisher, repairs, status, streams
from orchestration.manager import counters
from orchestration.manager.broker_epoch import BrokerEpochLoop
from orchestration.manager.dispatcher import Dispatcher
from orchestration.manager.events import Events
from orchestration.manager.outbox import Outbox
from orchestration.manager.reaper import Reaper
from orchestration.manager.service import Service
from orchestration.manager.timers import Timers
from orchestration.repairs import Repair
from tests.integration.orchestration.conftest import aged


@pytest.fixture(autouse=True)
def _release_locks(transactional_db):
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


class Counted:
    """How much each kind has grown since the last look."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> dict[str, float]:
        return {
            kind.value: REGISTRY.get_sample_value("manager_repairs_total", {"kind": kind.value})
            or 0.0
            for kind in Repair
        }

    def more(self) -> dict[str, float]:
        now = self._now()
        found = {kind: now[kind] - self._before[kind] for kind in now}
        self._before = now
        return {kind: count for kind, count in found.items() if count}


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def reaper(stop):
    loop = Reaper(stop=stop)
    loop.turn()
    return loop


@pytest.fixture
def consumer(platform, stop, monkeypatch):
    monkeypatch.setattr(streams, "READ_BLOCK_SECONDS", 0.01)
    loop = Events(stop=stop, consumer="alive", claim_idle_seconds=0.0, claim_every_seconds=0.0)
    loop.turn()
    return loop


def step_of(run_id) -> int:
    return StepRun.objects.get(run_id=run_id, key="numbers").pk


def test_repairs__a_quiet_installation_has_none(platform, stop, reaper, consumer, counted):
    for loop in (consumer, reaper, BrokerEpochLoop(stop=stop), Outbox(stop=stop)):
        loop.turn()
    assert counted.more() == {}, "the first group and the first epoch are no repairs"


def test_repairs__entries_left_by_a_dead_consumer(platform, consumer, counted):
    for _ in range(2):
        platform.xadd(streams.EVENTS, {"event_type": "run.completed"})
    streams.read_new(consumer="dead", count=2)
    consumer.turn()
    consumer.turn()
    assert counted.more() == {"stream_entries_claimed": 2}
    assert streams.status().pending == 0


def test_repairs__a_lost_group(platform, consumer, counted):
    platform.delete(streams.EVENTS)
    consumer.turn()
    consumer.turn()
    assert counted.more() == {"stream_group_recreated": 1}
    assert streams.ensure_group() is False


def test_repairs__a_lost_message(platform, reaper, submitted, counted):
    aged(submitted, 10)
    platform.delete("lab")
    reaper.turn()
    assert counted.more() == {"messages_lost": 1}


def test_repairs__a_redis_that_forgot(platform, stop, submitted, counted):
    loop = BrokerEpochLoop(stop=stop)
    loop.turn()
    Dispatcher(stop=stop).turn()
    platform.flushall()
    loop.turn()
    assert counted.more() == {"broker_memory_lost": 1, "stream_group_recreated": 1}


def test_repairs__an_expired_claim(platform, reaper, submitted, counted):
    leases.claim(step_run_ids=[step_of(submitted)], worker="w@h/1")
    Lease.objects.update(expires_at="2020-01-01T00:00:00Z")
    labels = {"department": "lab", "step": "lab.numbers", "outcome": "retried"}
    before = REGISTRY.get_sample_value("automation_steps_total", labels) or 0.0
    reaper.turn()
    assert counted.more() == {"claims_expired": 1}
    # The attempt is counted here: its worker cannot any more.
    assert REGISTRY.get_sample_value("automation_steps_total", labels) == before + 1


def test_repairs__a_dead_worker_process(platform, reaper, submitted, counted):
    leases.claim(step_run_ids=[step_of(submitted)], worker="w@h/1")
    hint = {"worker": "w@h/1", "step_run_ids": [], "at": presence.clock(platform) + 1}
    platform.rpush(streams.WORKERS_LOST, json.dumps(hint))
    reaper.turn()
    assert counted.more() == {"workers_lost": 1}


def test_repairs__a_worker_that_recycled_itself(platform, reaper, counted, caplog):
    platform.rpush(streams.WORKERS_LOST, json.dumps({"worker": "w@h", "recycled": "deaf"}))
    with caplog.at_level(logging.INFO, logger="orchestration.repairs"):
        reaper.turn()
    assert counted.more() == {"workers_recycled": 1}
    (said,) = [record.msg for record in caplog.records if record.name == "orchestration.repairs"]
    assert (said["event"], said["worker"], said["reason"]) == ("repaired", "w@h", "deaf")


def test_repairs__a_dead_letter_whose_announcement_was_lost(platform, stop, submitted, counted):
    DeadLetter.objects.create(
        run_id=submitted,
        step_run_id=step_of(submitted),
        department="lab",
        automation="lab.squares",
        step="lab.numbers",
        map_index=-1,
        error_code="broken",
        attempts=3,
        crashes=0,
        created_at="2026-01-01T00:00:00Z",
    )
    Outbox(stop=stop).turn()
    assert counted.more() == {"dead_letters_announced": 1}


def test_repairs__are_shown_by_the_manager_and_told_to_the_others(platform, stop):
    repairs.note(Repair.MESSAGES, 3, queue="lab")
    service = Service(instance=7, address="127.0.0.1", port=0)
    try:
        shown = service.health()["repairs"]["messages_lost"]
        assert shown["count"] >= 3
        service._tell()
        (told,) = [one for one in status.managers() if one.name.endswith("-7")]
        assert told.repairs["messages_lost"] == shown
    finally:
        service.server.server_close()


def ended(status_name: str) -> float:
    labels = {"department": "lab", "automation": "lab.squares", "status": status_name}
    return REGISTRY.get_sample_value("automation_runs_total", labels) or 0.0


def seconds_counted() -> float:
    labels = {"department": "lab", "automation": "lab.squares"}
    return REGISTRY.get_sample_value("automation_run_duration_seconds_count", labels) or 0.0


def test_ended_runs__are_counted_once_when_they_are_told(
    platform, stop, submitted, redis_elsewhere
):
    counters.prepare()
    before, durations = ended("cancelled"), seconds_counted()
    runs.cancel(run_id=submitted, actor="test")
    Timers(stop=stop).turn()
    outbox = Outbox(stop=stop)
    here = streams.settings.REDIS_URL
    redis_elsewhere("redis://127.0.0.1:1/0")
    outbox.turn()
    assert ended("cancelled") == before, "not told: it comes again"
    redis_elsewhere(here)
    outbox.turn()
    outbox.turn()
    assert ended("cancelled") == before + 1
    assert seconds_counted() == durations + 1


def test_breaker__is_counted_when_it_opens_and_not_while_it_is_open(platform, redis_elsewhere):
    def opened() -> float:
        labels = {"breaker": breakers.PUBLISHING}
        return REGISTRY.get_sample_value("circuit_breakers_opened_total", labels) or 0.0

    found = publisher.Publisher()
    before = opened()
    here = streams.settings.REDIS_URL
    redis_elsewhere("redis://127.0.0.1:1/0")
    for _ in range(3):
        with pytest.raises(publisher.BrokerAwayError):
            found.notify_dead_letters([1])
    assert opened() == before + 1
    redis_elsewhere(here)
    found.notify_dead_letters([1])
    redis_elsewhere("redis://127.0.0.1:1/0")
    with pytest.raises(publisher.BrokerAwayError):
        found.notify_dead_letters([1])
    assert opened() == before + 2
