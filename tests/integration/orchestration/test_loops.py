"""The loops of the manager, turned by hand against real PostgreSQL and Redis."""

from __future__ import annotations

import json
import threading
import time

import psycopg
import pytest
from django.db import connection

from engine import leases, runs
from engine.models import DeadLetter, Lease, OutboxEvent, StepRun, WorkerPresence
from orchestration import dead_letters, messages, streams
from orchestration.manager.broker_epoch import BrokerEpochLoop
from orchestration.manager.dispatcher import Dispatcher
from orchestration.manager.loop import Loop
from orchestration.manager.lost_messages import missing
from orchestration.manager.outbox import Outbox
from orchestration.manager.presence import Presence
from orchestration.manager.reaper import Reaper
from orchestration.manager.timers import Timers
from orchestration.models import BrokerEpoch
from tests.eventually import eventually
from tests.integration.orchestration.conftest import aged, in_thread, states


@pytest.fixture(autouse=True)
def _release_locks(transactional_db):
    """Session locks outlive a transaction: the test's connection must not keep them."""
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


def sent(queue: str) -> list[int]:
    return [n for raw in streams.waiting(queue, limit=10_000) for n in messages.step_run_ids(raw)]


def first_step(run_id) -> StepRun:
    return StepRun.objects.get(run_id=run_id, key="numbers")


# --- the frame ---------------------------------------------------------------------------


class Counting(Loop):
    name = "counting"
    interval = 0.02

    def __init__(self, *, stop, error=None):
        super().__init__(stop=stop)
        self.ticks = 0
        self.error_to_raise = error

    def tick(self):
        self.ticks += 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if self.error_to_raise:
            raise self.error_to_raise
        return False


def test_loop__of_two_managers_one_works_and_the_other_takes_over(platform, stop):
    other_stop = threading.Event()
    one, two = Counting(stop=stop), Counting(stop=other_stop)
    thread = in_thread(one)
    eventually(lambda: one.state == "working", within=5)
    other = in_thread(two)
    eventually(lambda: two.state == "standby", within=5)
    assert two.ticks == 0
    stop.set()
    thread.join(5)
    eventually(lambda: two.state == "working", within=2)
    other_stop.set()
    other.join(5)


def test_loop__a_killed_session_frees_the_lock_and_the_loop_comes_back(platform, stop):
    loop = Counting(stop=stop)
    thread = in_thread(loop)
    eventually(lambda: loop.ticks > 0, within=5)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    eventually(lambda: loop.reconnected, within=5)
    before = loop.ticks
    eventually(lambda: loop.ticks > before + 2 and loop.state == "working", within=5)
    stop.set()
    thread.join(5)


def test_loop__a_bug_in_a_tick_stops_nothing(platform, stop):
    loop = Counting(stop=stop, error=RuntimeError("bug"))
    loop.turn()
    assert loop.status()["state"] == "failing"
    assert loop.status()["error"] == "RuntimeError"
    loop.error_to_raise = None
    loop.turn()
    assert loop.status()["state"] == "working"


def test_loop__a_lost_deadlock_is_no_outage(platform, stop):
    loop = Counting(stop=stop, error=psycopg.errors.DeadlockDetected("both waited"))
    loop.turn()
    assert loop.reconnected is False


# --- timers ------------------------------------------------------------------------------


def test_timers__a_cancelled_run_comes_to_its_end(platform, stop, submitted):
    runs.cancel(run_id=submitted, actor="test")
    Timers(stop=stop).turn()
    assert set(states(submitted).values()) == {"cancelled"}


# --- reaper ------------------------------------------------------------------------------


@pytest.fixture
def reaper(stop):
    loop = Reaper(stop=stop)
    loop.turn()  # the first turn may grant grace, as PostgreSQL may be young
    return loop


def test_reaper__a_message_lost_from_its_queue_is_sent_again(platform, reaper, submitted):
    platform.delete("lab")
    reaper.turn()
    assert states(submitted)["numbers"] == "queued", "too early: nobody had time to take it"
    aged(submitted, 10)
    reaper.turn()
    assert states(submitted)["numbers"] == "ready"


def test_reaper__a_message_that_waits_in_a_long_queue_is_not_lost(platform, reaper, submitted):
    aged(submitted, 10)
    reaper.turn()
    assert states(submitted)["numbers"] == "queued"


def test_reaper__a_message_missing_among_others_is_lost(platform, submitted):
    step = first_step(submitted).pk
    assert missing(queue="lab", step_run_ids=[step, 10**12]) == [10**12]


def test_reaper__an_expired_claim_is_tried_again(platform, reaper, submitted):
    step = first_step(submitted)
    leases.claim(step_run_ids=[step.pk], worker="w@h/1")
    Lease.objects.update(expires_at="2020-01-01T00:00:00Z")
    reaper.turn()
    step.refresh_from_db()
    assert (step.state, step.crashes) == ("retry_wait", 1)


def test_reaper__a_dead_worker_is_believed_at_once(platform, reaper, submitted):
    step = first_step(submitted)
    leases.claim(step_run_ids=[step.pk], worker="w@h/1")
    hint = {"worker": "w@h/1", "step_run_ids": [step.pk]}
    platform.rpush(streams.WORKERS_LOST, b"rubbish", json.dumps(hint))
    reaper.turn()
    step.refresh_from_db()
    assert (step.state, step.crashes) == ("retry_wait", 1)


def test_reaper__a_worker_that_was_stopped_is_no_crash_of_its_step(platform, reaper, submitted):
    step = first_step(submitted)
    leases.claim(step_run_ids=[step.pk], worker="w@h/1")
    hint = {"worker": "w@h/1", "step_run_ids": [step.pk], "blame": False}
    platform.rpush(streams.WORKERS_LOST, json.dumps(hint))
    reaper.turn()
    step.refresh_from_db()
    assert (step.state, step.crashes, step.error_code) == ("retry_wait", 0, "worker_stopped")


def test_reaper__a_hint_about_another_process_changes_nothing(platform, reaper, submitted):
    step = first_step(submitted)
    leases.claim(step_run_ids=[step.pk], worker="w@h/2")
    hint = {"worker": "w@h/1", "step_run_ids": [step.pk]}
    platform.rpush(streams.WORKERS_LOST, json.dumps(hint))
    reaper.turn()
    step.refresh_from_db()
    assert step.state == "running"


def test_reaper__after_an_outage_holders_get_time_to_renew(platform, reaper, submitted):
    step = first_step(submitted)
    leases.claim(step_run_ids=[step.pk], worker="w@h/1")
    Lease.objects.update(expires_at="2020-01-01T00:00:00Z")
    reaper.reconnected = True
    reaper.turn()
    step.refresh_from_db()
    assert step.state == "running"


def test_reaper__after_a_pause_of_its_own_holders_get_time_to_renew(platform, reaper, submitted):
    step = first_step(submitted)
    leases.claim(step_run_ids=[step.pk], worker="w@h/1")
    Lease.objects.update(expires_at="2020-01-01T00:00:00Z")
    reaper._last_tick -= 1000
    reaper.turn()
    step.refresh_from_db()
    assert step.state == "running"


def test_reaper__a_machine_that_was_suspended_costs_no_step_an_attempt(
    platform, reaper, submitted, monkeypatch
):
    step = first_step(submitted)
    leases.claim(step_run_ids=[step.pk], worker="w@h/1")
    Lease.objects.update(expires_at="2020-01-01T00:00:00Z")
    read = time.clock_gettime
    # Only the clock that counts the time asleep has gone on.
    monkeypatch.setattr(
        time,
        "clock_gettime",
        lambda clock: read(clock) + 3600 * (clock == time.CLOCK_BOOTTIME),
    )
    reaper.turn()
    step.refresh_from_db()
    assert (step.state, step.crashes) == ("running", 0)


def test_reaper__expired_claims_are_ended_even_while_redis_is_away(
    platform, reaper, submitted, redis_elsewhere
):
    step = first_step(submitted)
    leases.claim(step_run_ids=[step.pk], worker="w@h/1")
    Lease.objects.update(expires_at="2020-01-01T00:00:00Z")
    redis_elsewhere("redis://127.0.0.1:1/0")
    reaper.turn()
    step.refresh_from_db()
    assert step.state == "retry_wait"


# --- broker epoch ------------------------------------------------------------------------


def test_broker_epoch__a_redis_that_forgot_gets_everything_again(platform, stop, submitted):
    loop = BrokerEpochLoop(stop=stop)
    loop.turn()
    first = BrokerEpoch.objects.get().epoch
    Dispatcher(stop=stop).turn()
    assert states(submitted)["numbers"] == "queued"
    loop.turn()
    assert BrokerEpoch.objects.get().epoch == first, "nothing was lost"
    platform.flushall()
    loop.turn()
    assert BrokerEpoch.objects.get().epoch == first + 1
    assert states(submitted)["numbers"] == "ready"
    Dispatcher(stop=stop).turn()
    assert sent("lab") == [first_step(submitted).pk]
    assert streams.ensure_group() is False, "the group was made again"


def test_broker_epoch__another_redis_process_counts_as_loss(platform, stop, submitted):
    loop = BrokerEpochLoop(stop=stop)
    loop.turn()
    Dispatcher(stop=stop).turn()
    BrokerEpoch.objects.update(server_run_id="another")
    loop.turn()
    assert states(submitted)["numbers"] == "ready"


def test_broker_epoch__a_death_before_redis_was_told_is_repeated(
    platform, stop, submitted, monkeypatch
):
    loop = BrokerEpochLoop(stop=stop)
    monkeypatch.setattr(
        streams, "ensure_group", lambda: (_ for _ in ()).throw(RuntimeError("killed"))
    )
    loop.turn()
    monkeypatch.undo()
    loop.turn()
    epoch = BrokerEpoch.objects.get()
    assert epoch.epoch == 2
    assert platform.get(streams.EPOCH).decode() == str(epoch.token)


# --- outbox, presence, policy ------------------------------------------------------------


def test_outbox__flat_events_reach_their_stream_and_leave_the_table(platform, stop, submitted):
    runs.cancel(run_id=submitted, actor="test")
    Timers(stop=stop).turn()
    assert OutboxEvent.objects.exists()
    Outbox(stop=stop).turn()
    assert not OutboxEvent.objects.exists()
    entries = [
        {name.decode(): value.decode() for name, value in fields.items()}
        for _id, fields in platform.xrange(streams.EVENTS)
    ]
    last = entries[-1]
    assert last["event_type"] == "run.cancelled"
    assert last["run_id"] == str(submitted)
    assert (last["automation"], last["department"]) == ("lab.squares", "lab")
    assert json.loads(last["data"])["status"] == "cancelled"
    assert len({entry["event_id"] for entry in entries}) == len(entries)


def test_outbox__a_dead_letter_is_also_told_to_its_queue(platform, stop):
    OutboxEvent.objects.create(
        stream=streams.DLQ,
        event_type="dead_letter.created",
        data={"dead_letter_id": 5, "department": "lab"},
        at="2026-01-01T00:00:00Z",
    )
    Outbox(stop=stop).turn()
    assert platform.xlen(streams.DLQ) == 1
    assert streams.depth("dead_letter") == 1


def test_outbox__keeps_what_redis_did_not_take(platform, stop, submitted, redis_elsewhere):
    runs.cancel(run_id=submitted, actor="test")
    before = OutboxEvent.objects.count()
    redis_elsewhere("redis://127.0.0.1:1/0")
    Outbox(stop=stop).turn()
    assert OutboxEvent.objects.count() == before > 0


def said(platform, name: str, *, ago: float = 0.0, leaving: bool = False) -> None:
    seconds, micros = platform.time()
    word = {
        "pid": 5,
        "queues": ["lab"],
        "concurrency": 2,
        "uptime": 60.0,
        "at": seconds + micros / 1e6 - ago,
        "leaving": leaving,
    }
    platform.hset(streams.WORKERS, name, json.dumps(word))


def test_presence__workers_as_they_said_themselves(platform, stop):
    said(platform, "here@h", ago=1)
    said(platform, "left@h", leaving=True)
    said(platform, "silent@h", ago=10_000)
    platform.hset(streams.WORKERS, "rubbish@h", b"{")
    WorkerPresence.objects.create(
        hostname="left@h",
        pid=1,
        concurrency=1,
        started_at="2026-01-01T00:00:00Z",
        seen_at="2126-01-01T00:00:00Z",
    )
    Presence(stop=stop).turn()
    worker = WorkerPresence.objects.get()
    assert (worker.hostname, worker.queues, worker.pid) == ("here@h", ["lab"], 5)
    assert 59 < (worker.seen_at - worker.started_at).total_seconds() < 61
    assert set(platform.hkeys(streams.WORKERS)) == {b"here@h"}


def test_check_policy__refuses_a_redis_that_evicts_and_says_how_to_set_it(platform):
    platform.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(streams.EvictionPolicyError) as caught:
            streams.check_policy()
    finally:
        platform.config_set("maxmemory-policy", "noeviction")
    assert "redis-cli CONFIG SET maxmemory-policy noeviction" in str(caught.value)
    streams.check_policy()


def test_dead_letters__are_announced_once(platform, submitted):
    letter = DeadLetter.objects.create(
        run_id=submitted,
        step_run=first_step(submitted),
        department="lab",
        automation="lab.squares",
        step="lab.numbers",
        map_index=-1,
        error_code="broken",
        attempts=3,
        crashes=0,
        created_at="2026-01-01T00:00:00Z",
    )
    assert dead_letters.notify(dead_letter_id=letter.pk) is True
    assert dead_letters.notify(dead_letter_id=letter.pk) is False
    assert dead_letters.notify(dead_letter_id=10**9) is False


def test_outbox__a_bell_that_was_lost_rings_again(platform, stop, submitted):
    letter = DeadLetter.objects.create(
        run_id=submitted,
        step_run=first_step(submitted),
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
    assert streams.depth("dead_letter") == 1
    Outbox(stop=stop).turn()
    assert streams.depth("dead_letter") == 1, "one still waits"
    platform.flushall()
    dead_letters.notify(dead_letter_id=letter.pk)
    Outbox(stop=stop).turn()
    assert streams.depth("dead_letter") == 0


def test_streams_status__lag_and_backlog_on_any_redis(platform):
    streams.ensure_group()
    for _ in range(3):
        platform.xadd(streams.EVENTS, {"event_type": "run.completed"})
    streams.read_new(consumer="one", count=1)
    time.sleep(0.01)
    found = streams.status()
    assert (found.length, found.undelivered, found.pending) == (3, 2, 1)
    assert 0 < found.lag_seconds < 5
