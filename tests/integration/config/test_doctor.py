"""The routine on a real PostgreSQL and Redis: each limit, on both sides of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from config.doctor import looks
from departments import sync
from engine import runs
from engine.models import DeadLetter, Run
from orchestration import metrics, status, streams
from orchestration.manager import loop
from tests.integration.faces import work
from tests.waiting import present


@pytest.fixture
def platform(transactional_db, broker):
    sync.sync_catalog()
    return broker


def test_database__says_version_and_connections(platform):
    found = looks.database()["database"]
    assert found.ok
    assert 0 < found.number < 1


def test_migrations__that_are_missing_are_counted_and_named(platform):
    assert looks.migrations()["migrations"].ok
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'engine' AND name ~ '^0001_'")
        try:
            found = looks.migrations()["migrations"]
        finally:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied)"
                " VALUES ('engine', '0001_initial', now())"
            )
    assert (found.ok, found.value) == (False, "1 missing")
    assert "engine.0001_initial" in found.note
    assert "migrate" in found.note
    assert looks.migrations()["migrations"].ok


def test_queue__is_over_at_a_hundred_and_without_a_worker_where_work_waits(platform):
    quiet = looks.work()
    assert quiet["queue_depth"].ok
    assert quiet["workers"].ok
    assert "nobody serves" in quiet["workers"].note
    for _ in range(99):
        runs.submit(automation="lab.squares", input={"count": 1}, trigger="command")
    assert looks.work()["queue_depth"].ok
    runs.submit(automation="lab.squares", input={"count": 1}, trigger="command")
    found = looks.work()
    assert (found["queue_depth"].ok, found["queue_depth"].value) == (False, "100 (lab)")
    assert not found["workers"].ok
    assert found["workers"].note == "work waits in lab (100)"
    present("lab")
    assert looks.work()["workers"].ok
    assert looks.work()["recent_runs"].value == "5 pending"


def test_dead_letters__of_a_day_are_over_older_ones_are_told(line, tmp_path, broker):
    runs.submit(automation="lab.fragile", input={"folder": str(tmp_path)}, trigger="command")
    work(line)
    assert (looks.work()["dead_letters"].ok, looks.work()["dead_letters"].number) == (False, 1)
    DeadLetter.objects.update(created_at=timezone.now() - timedelta(hours=25))
    found = looks.work()["dead_letters"]
    assert (found.ok, found.note) == (True, "1 open")


def test_runs__in_which_nothing_can_move_are_over(platform):
    run = runs.submit(automation="lab.squares", input={"count": 1}, trigger="command").run_id
    Run.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    assert looks.work()["runs_stuck"].ok
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE engine_steprun DISABLE TRIGGER USER")
        cursor.execute("UPDATE engine_steprun SET state = 'waiting' WHERE run_id = %s", [run])
        cursor.execute("ALTER TABLE engine_steprun ENABLE TRIGGER USER")
    assert looks.work()["runs_stuck"].value == "1"
    # Neither can one that is to be cancelled and has nothing left that would say so.
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE engine_run DISABLE TRIGGER USER")
        cursor.execute("UPDATE engine_run SET state = 'cancelling' WHERE id = %s", [run])
        cursor.execute("ALTER TABLE engine_run ENABLE TRIGGER USER")
    assert looks.work()["runs_stuck"].value == "1"


def test_redis__is_over_its_limits_of_memory_lag_and_policy(platform):
    before = platform.config_get("maxmemory*")
    try:
        found = looks.broker()
        assert all(one.ok for one in found.values()), found
        streams.ensure_group()
        # An entry of ten minutes ago, by the clock of Redis.
        seconds, _micros = platform.time()
        platform.xadd(streams.EVENTS, {"event_type": "x"}, id=f"{(seconds - 600) * 1000}-0")
        used = int(platform.info("memory")["used_memory"])
        platform.config_set("maxmemory", used + used // 4)
        platform.config_set("maxmemory-policy", "allkeys-lru")
        found = looks.broker()
    finally:
        for name in ("maxmemory", "maxmemory-policy"):
            platform.config_set(name, before[name])
    assert 600 <= found["stream_lag"].number < 660
    assert not found["stream_lag"].ok
    assert not found["redis_memory"].ok
    assert 0.6 < found["redis_memory"].number < 1
    assert (found["redis_eviction"].ok, found["redis_eviction"].value) == (False, "allkeys-lru")


def test_manager__is_who_holds_the_loops_and_speaks(platform):
    found = looks.manager()["manager"]
    assert (found.ok, found.value) == (False, "degraded")
    assert "manage.py manager" in found.note
    with connection.cursor() as cursor:
        for name in looks.MANAGER_LOOPS[1:]:
            cursor.execute("SELECT pg_advisory_lock(%s)", [loop.lock_key(name)])
        assert looks.MANAGER_LOOPS[0] in looks.manager()["manager"].note
        cursor.execute("SELECT pg_advisory_lock(%s)", [loop.lock_key(looks.MANAGER_LOOPS[0])])
        try:
            assert "none has spoken" in looks.manager()["manager"].note
            status.tell(name="m-0", status="degraded", loops={})
            assert looks.manager()["manager"].note.startswith("degraded: m-0")
            status.tell(name="m-0", status="healthy", loops={})
            found = looks.manager()["manager"]
        finally:
            cursor.execute("SELECT pg_advisory_unlock_all()")
    assert (found.ok, found.value) == (True, "healthy")
    assert "1 running" in found.note


def test_backup__is_what_the_manager_last_said(platform):
    assert (looks.backup()["backup"].ok, looks.backup()["backup"].value) == (False, "unknown")
    for age, good in ((3_600.0, True), (90_000.0, False)):
        sample = metrics.Sample()
        sample.add(looks.BACKUP_AGE, age)
        metrics.keep(sample)
        assert looks.backup()["backup"].ok is good
