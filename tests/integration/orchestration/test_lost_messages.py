"""Which queued steps are sent again: the rule, turned by hand, and real workers held to it."""

from __future__ import annotations

import json
import signal
import time

import psutil
import pytest
from django.conf import settings
from django.db import connection

from engine import leases, runs
from engine.models import RunEvent, StepRun, WorkerPresence
from engine.publishing import ReadyStep
from orchestration import presence, publisher, routing, streams
from orchestration.manager import lost_messages
from orchestration.manager.presence import Presence
from orchestration.manager.reaper import Reaper
from tests.eventually import eventually
from tests.integration.orchestration.conftest import aged, states
from tests.integration.orchestration.processes import folder, is_working, manager, state, worker


@pytest.fixture(autouse=True)
def _release_locks(transactional_db):
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


@pytest.fixture
def reaper(stop):
    loop = Reaper(stop=stop)
    loop.turn()
    return loop


def says(platform, name: str, *, ago: float = 0.0, queue: str = "lab", **known) -> None:
    """Let a worker have said something so long ago."""
    word = presence.Word(
        pid=5,
        queues=[queue],
        concurrency=2,
        uptime=60.0,
        at=presence.clock(platform) - ago,
        **({"busy": 0} | known),
    )
    platform.hset(streams.WORKERS, name, word.encode())


def step_of(run_id) -> int:
    return StepRun.objects.get(run_id=run_id, key="numbers").pk


def copies(run_id, number: int, **changes: str) -> None:
    """Put so many more steps like a run's first one beside it."""
    first = StepRun.objects.get(run_id=run_id, key="numbers")
    kept = {
        field.attname: getattr(first, field.attname)
        for field in StepRun._meta.concrete_fields
        if field.attname not in {"id", "map_index"}
    }
    StepRun.objects.bulk_create(
        StepRun(**kept | changes, map_index=index) for index in range(number)
    )


def releases(reason: str) -> int:
    return RunEvent.objects.filter(kind="step.released", data__reason=reason).count()


def test_reaper__a_step_that_a_live_worker_holds_is_not_lost(platform, reaper, submitted):
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "w@h", busy=2, held=(step_of(submitted),), waiting=1)
    # As if it had been missing for long: only the word speaks for it.
    reaper._lost_messages._missing[step_of(submitted)] = 0.0
    reaper.turn()
    assert states(submitted)["numbers"] == "queued"


def test_reaper__what_a_worker_held_that_fell_silent_is_sent_again_at_once(
    platform, reaper, submitted
):
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "w@h", ago=4, busy=2, held=(step_of(submitted),), waiting=1)
    reaper.turn()
    assert states(submitted)["numbers"] == "ready"
    assert releases("message_lost") == 1


def test_reaper__between_queue_and_word_nobody_is_believed_too_soon(platform, reaper, submitted):
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "w@h", ago=0.5, busy=1, held=(10**12,))
    reaper.turn()
    assert states(submitted)["numbers"] == "queued", "it may be on its way to the worker"

    def again() -> bool:
        reaper.turn()
        return states(submitted)["numbers"] == "ready"

    # The worker is silent: its old word says nothing about a message fetched since.
    began = time.monotonic()
    eventually(again, within=5)
    assert time.monotonic() - began > lost_messages.SURE_SECONDS


def test_reaper__when_every_worker_has_spoken_since_it_is_lost(platform, reaper, submitted):
    platform.delete("lab")
    aged(submitted, 10)

    def again() -> bool:
        says(platform, "w@h", busy=1, held=(10**12,))
        reaper.turn()
        return states(submitted)["numbers"] == "ready"

    began = time.monotonic()
    eventually(again, within=3)
    assert lost_messages.SURE_SECONDS < time.monotonic() - began < 2.5


def test_reaper__a_worker_that_holds_more_than_it_says_keeps_its_steps(platform, reaper, submitted):
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "w@h", busy=2, held=(10**12,), waiting=1, cut=True)
    reaper._lost_messages._missing[step_of(submitted)] = 0.0
    reaper.turn()
    assert states(submitted)["numbers"] == "queued"
    aged(submitted, 400)
    says(platform, "w@h", busy=2, held=(10**12,), waiting=1, cut=True)
    reaper.turn()
    assert states(submitted)["numbers"] == "ready", "the final patience is five minutes"


@pytest.mark.parametrize(
    ("idle", "taken"),
    [
        ({"busy": 1}, True),
        ({"busy": 2}, False),
        ({"busy": 1, "held": (10**12,), "waiting": 1}, False),
        ({"busy": 0, "queue": "finance"}, False),
        ({"busy": 0, "ago": 9}, True),
        ({"busy": 0, "ago": 23}, False),
        ({"busy": None}, False),
    ],
)
def test_reaper__a_held_step_goes_to_a_worker_that_is_idle(
    platform, reaper, submitted, idle, taken
):
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "busy@h", busy=2, held=(step_of(submitted),), waiting=1)
    says(platform, "other@h", **idle)
    reaper.turn()
    assert states(submitted)["numbers"] == ("ready" if taken else "queued")
    assert releases("stranded") == taken
    assert releases("message_lost") == 0


def test_reaper__the_rest_of_a_running_message_goes_to_an_idle_child_of_the_same_worker(
    platform, reaper, submitted
):
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "w@h", busy=1, held=(step_of(submitted),), waiting=0)
    reaper.turn()
    assert releases("stranded") == 1


def test_reaper__an_idle_worker_gets_what_it_can_take_in_order(platform, reaper):
    found = runs.submit(automation="lab.squares", input={"count": 2}, trigger="command").run_id
    copies(found, 99)
    aged(found, 10)
    held = tuple(
        StepRun.objects.filter(run_id=found, key="numbers")
        .order_by("-id")
        .values_list("pk", flat=True)
    )
    platform.delete("lab")
    says(platform, "busy@h", busy=2, held=held, waiting=4)
    says(platform, "idle@h", busy=1)
    reaper.turn()
    ready = set(StepRun.objects.filter(run_id=found, state="ready").values_list("pk", flat=True))
    assert ready == set(held[:32])


def test_reaper__an_idle_process_is_not_given_more_than_it_takes_in_a_second(platform, reaper):
    found = runs.submit(automation="lab.squares", input={"count": 2}, trigger="command").run_id
    copies(found, 99)
    aged(found, 10)
    held = tuple(StepRun.objects.filter(run_id=found, key="numbers").values_list("pk", flat=True))
    platform.delete("lab")
    began = time.monotonic()
    for _ in range(2):
        says(platform, "busy@h", busy=2, held=held, waiting=4)
        says(platform, "idle@h", busy=1)
        reaper.turn()
    assert time.monotonic() - began < lost_messages.SHARE_SECONDS
    assert releases("stranded") == routing.MAX_STEPS_PER_MESSAGE


def test_reaper__what_the_dispatcher_sent_is_missed_as_soon_as_what_the_fast_path_sent(
    platform, reaper, submitted
):
    platform.delete("lab")
    StepRun.objects.filter(run_id=submitted, key="numbers").update(dispatches=1)
    aged(submitted, settings.LOST_MESSAGE_SECONDS + 0.5)
    reaper.turn()
    assert states(submitted)["numbers"] == "ready"


def test_reaper__a_backlog_that_nobody_serves_hides_no_lost_message_of_another_queue(
    platform, reaper, submitted
):
    backlog = runs.submit(automation="lab.squares", input={"count": 2}, trigger="command").run_id
    copies(backlog, leases.TOO_LONG_LIMIT + 1, lane="finance", queue="finance")
    aged(backlog, 100)
    ids = StepRun.objects.filter(run_id=backlog, queue="finance").values_list("pk", flat=True)
    publisher.publisher.send([ReadyStep(found, "finance") for found in ids])
    platform.delete("lab")
    aged(submitted, 10)
    reaper.turn()
    assert states(submitted)["numbers"] == "ready"
    assert not StepRun.objects.filter(queue="finance").exclude(state="queued").exists()


def test_reaper__a_word_from_the_future_is_of_a_clock_set_back_and_not_believed(
    platform, reaper, submitted, stop
):
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "dead@h", ago=-3600, busy=2, held=(step_of(submitted),), waiting=1)
    reaper.turn()
    assert states(submitted)["numbers"] == "ready"
    Presence(stop=stop).turn()
    assert not WorkerPresence.objects.exists()
    assert platform.hgetall(streams.WORKERS) == {}


def test_reaper__when_the_clock_is_set_back_workers_may_speak_first(
    platform, reaper, submitted, monkeypatch
):
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "w@h", busy=2, held=(step_of(submitted),), waiting=1)
    reaper.turn()
    real = presence.said
    back = 3600

    def said(client):
        now, words = real(client)
        return now - back, dict.fromkeys(words)

    monkeypatch.setattr(presence, "said", said)
    reaper.turn()
    assert states(submitted)["numbers"] == "queued"


def test_reaper__after_an_outage_of_redis_workers_may_speak_first(
    platform, reaper, submitted, redis_elsewhere
):
    good = settings.REDIS_URL
    platform.delete("lab")
    aged(submitted, 10)
    says(platform, "w@h", ago=4, busy=2, held=(step_of(submitted),), waiting=1)
    redis_elsewhere("redis://127.0.0.1:1/0")
    reaper.turn()
    redis_elsewhere(good)
    reaper.turn()
    assert states(submitted)["numbers"] == "queued"


def test_reaper__a_hint_hands_back_the_rest_of_the_message_at_once(platform, reaper):
    found = [
        runs.submit(automation="lab.squares", input={"count": 2}, trigger="command").run_id
        for _ in range(3)
    ]
    ids = [step_of(run_id) for run_id in found]
    leases.claim(step_run_ids=[ids[1]], worker="w@h/1")
    hint = {"worker": "w@h/1", "step_run_ids": ids}
    platform.rpush(streams.WORKERS_LOST, json.dumps(hint))
    reaper.turn()
    assert [states(run_id)["numbers"] for run_id in found] == ["ready", "retry_wait", "ready"]
    assert releases("worker_lost") == 2


def test_presence__shows_what_waits_in_a_workers_hands(platform, stop, submitted):
    step = step_of(submitted)
    says(platform, "w@h", busy=1, held=(10**12, step), waiting=1)
    says(platform, "silent@h", ago=5, busy=1, held=(step,), waiting=1)
    Presence(stop=stop).turn()
    rows = {row.hostname: (row.busy, row.held) for row in WorkerPresence.objects.all()}
    assert rows == {"w@h": (1, [step]), "silent@h": (0, [])}


# --- real workers --------------------------------------------------------------------------


def send(run_ids: list, key: str) -> None:
    """Send steps as a burst is sent: many share a message."""
    ids = StepRun.objects.filter(run_id__in=run_ids, key=key).order_by("id").values_list("id")
    publisher.publisher.send([ReadyStep(found, "lab") for (found,) in ids])


@pytest.mark.slow
def test_worker__leaves_in_the_queue_what_no_process_is_free_for(started, platform, tmp_path):
    path = folder(tmp_path)
    boss = manager(started)  # first: a manager that meets a Redis for the first time sends again
    eventually(lambda: is_working(boss), within=20)
    for _ in range(2):
        runs.submit(
            automation="lab.stubborn", input={"folder": path, "seconds": 60}, trigger="command"
        )
    worker(started, name="busy")
    eventually(lambda: StepRun.objects.filter(state="running").count() == 2, within=20)
    short = [
        runs.submit(automation="lab.squares", input={"count": 0}, trigger="command").run_id
        for _ in range(8)
    ]
    row = eventually(lambda: WorkerPresence.objects.exclude(busy=0).first(), within=15)
    assert (row.busy, row.held) == (2, [])
    assert streams.depth("lab") == 8
    worker(started, name="idle")
    for run_id in short:
        eventually(lambda run_id=run_id: state(run_id) == "succeeded", within=20)
    assert not RunEvent.objects.filter(kind="step.released").exists()


@pytest.mark.slow
def test_worker__killed_with_fetched_messages_loses_none_of_them(started, platform, tmp_path):
    victim = worker(started, name="victim")
    manager(started)
    warm = runs.submit(automation="lab.squares", input={"count": 0}, trigger="command").run_id
    eventually(lambda: state(warm) == "succeeded", within=20)
    # A message is fetched for a process that is free: these look free and begin nothing.
    children = psutil.Process(victim.pid).children()
    for child in children:
        child.suspend()
    short = runs.submit(automation="lab.squares", input={"count": 0}, trigger="command").run_id
    eventually(lambda: WorkerPresence.objects.exclude(held=[]).exists(), within=10)
    assert streams.depth("lab") == 0
    aged(short, 10)
    victim.send_signal(signal.SIGKILL)
    victim.wait(5)
    for child in children:
        child.kill()
    began = time.monotonic()
    eventually(lambda: releases("message_lost") > 0, within=8)
    took = time.monotonic() - began
    print(f"\nkill -9 of the parent: fetched messages handed back after {took:.1f} s")
    assert took < 5


@pytest.mark.slow
def test_worker__one_poison_step_in_a_message_takes_no_neighbour_with_it(
    started, platform, tmp_path
):
    path = folder(tmp_path)
    good = [
        runs.submit(automation="lab.squares", input={"count": 0}, trigger="command").run_id
        for _ in range(31)
    ]
    bad = runs.submit(automation="lab.poison", input={"folder": path}, trigger="command").run_id
    ids = list(StepRun.objects.filter(run_id__in=good, key="numbers").values_list("pk", flat=True))
    poison = StepRun.objects.get(run_id=bad, key="kill_worker").pk
    streams.client().delete("lab")
    message = publisher.messages.encode(
        publisher.messages.EXECUTE,
        {"step_run_ids": [*ids[:10], poison, *ids[10:]]},
        queue="lab",
    )
    platform.lpush("lab", message)
    worker(started)
    manager(started)
    for run_id in good:
        eventually(lambda run_id=run_id: state(run_id) == "succeeded", within=30)
    dead = eventually(lambda: StepRun.objects.filter(pk=poison, state="dead").first(), within=60)
    assert dead.crashes == 3
    assert StepRun.objects.exclude(pk=poison).filter(crashes__gt=0).count() == 0
