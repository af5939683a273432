import json
import logging
import os
import signal
import threading
import time

import pytest
import redis
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from config import dependencies, exposition, health, probes
from config.probes import HEALTHY, UNHEALTHY, Answer, Prober
from orchestration import metrics, status, streams
from orchestration.manager import loop
from tests.eventually import eventually

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_prober(broker):
    health.prober.stop()
    yield
    health.prober.stop()


def test_livez__answers(client):
    assert client.get("/livez").json() == {"status": "alive"}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/health/manager", "/metrics"])
def test_health__takes_no_post_and_asks_for_no_cookie(path):
    assert Client(enforce_csrf_checks=True).post(path).status_code == 405


def test_wrong_host__is_refused_without_filling_the_log(client, settings, caplog):
    settings.ALLOWED_HOSTS = ["localhost"]
    with caplog.at_level(settings.LOGGING["loggers"]["django.security.DisallowedHost"]["level"]):
        assert client.get("/livez", headers={"host": "evil.example"}).status_code == 400
    assert not caplog.records


def test_readyz__is_ready_with_database_migrations_and_redis(client):
    found = eventually(lambda: (r := client.get("/readyz")).status_code == 200 and r, within=5)
    assert set(found.json()["checks"]) == {"database", "redis", "migrations"}


def test_health__has_an_entry_per_dependency_and_says_what_is_missing(client):
    response = client.get("/health")
    body = response.json()
    assert response.status_code == 503
    assert set(body["dependencies"]) == {"database", "redis", "manager", "workers", "migrations"}
    found = eventually(
        lambda: (b := client.get("/health").json())["status"] == "degraded" and b, within=5
    )
    assert "no manager is running" in found["reason"]
    assert "no worker on" in found["reason"]
    assert found["dependencies"]["workers"]["queues"]["finance"] == 0


def test_readyz__names_a_migration_that_is_not_applied(client, transactional_db):
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("engine", "0002_hot_tables")
    try:
        reason = eventually(
            lambda: client.get("/readyz").json()["checks"]["migrations"].get("reason"), within=5
        )
        assert "engine.0002_hot_tables" in reason
        assert client.get("/readyz").status_code == 503
    finally:
        recorder.record_applied("engine", "0002_hot_tables")


def test_prober__answers_at_once_while_a_dependency_hangs(monkeypatch):
    monkeypatch.setattr(probes, "STALE_SECONDS", 0.3)
    monkeypatch.setattr(probes, "FIRST_SECONDS", 0.2)
    gate = []

    def hanging():
        while not gate:
            time.sleep(0.01)
        return Answer(HEALTHY)

    prober = Prober({"good": lambda: Answer(HEALTHY), "bad": hanging})
    began = time.monotonic()
    found = prober.answers()
    assert time.monotonic() - began < 0.5
    assert found["good"].status == HEALTHY
    assert found["bad"].status == UNHEALTHY
    assert "no answer" in found["bad"].reason
    gate.append(True)
    assert eventually(lambda: prober.answers()["bad"].status == HEALTHY, within=2)
    prober.stop()


def test_prober__calls_an_answer_stale_when_the_next_one_does_not_come(monkeypatch):
    monkeypatch.setattr(probes, "STALE_SECONDS", 0.2)
    monkeypatch.setattr(probes, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(probes, "STOP_SECONDS", 0.1)
    calls, gate = [], threading.Event()

    def answers_once():
        calls.append(1)
        if len(calls) > 1:
            gate.wait(10)
        return Answer(HEALTHY)

    prober = Prober({"redis": answers_once})
    assert prober.answers()["redis"].status == HEALTHY
    assert eventually(lambda: "no answer since" in prober.answers()["redis"].reason, within=2)
    gate.set()
    prober.stop()


def test_prober__tells_an_error_in_words_and_logs_its_text_once(caplog, monkeypatch):
    monkeypatch.setattr(probes, "EVERY_SECONDS", 0.01)
    calls = []

    def failing():
        calls.append(1)
        raise ConnectionError("nobody at 10.1.2.3\nsecond line")

    prober = Prober({"bad": failing}, words=lambda error: f"in words: {type(error).__name__}")
    with caplog.at_level(logging.WARNING, logger="config.probes"):
        assert prober.answers()["bad"] == Answer(UNHEALTHY, "in words: ConnectionError")
        eventually(lambda: len(calls) > 3, within=5)
    prober.stop()
    (said,) = [record.msg for record in caplog.records if record.name == "config.probes"]
    assert (said["probe"], said["error"]) == ("bad", "nobody at 10.1.2.3")


def tell(*, status_: str = "healthy", state: str = "working", **more) -> None:
    status.tell(name="h-0", status=status_, loops={"reaper": {"state": state}}, **more)


def test_health_manager__shows_instances_stream_backlog_and_repairs(client, broker):
    tell(repairs={"messages_lost": {"count": 2, "last_at": "2026-11-30T12:00:00+00:00"}})
    body = client.get("/health/manager").json()
    (instance,) = body["instances"]
    assert (instance["name"], instance["status"]) == ("h-0", "healthy")
    assert instance["loops"] == {"reaper": "working"}
    assert instance["repairs"]["messages_lost"]["count"] == 2
    assert 0 <= body["heartbeat_age_seconds"] < 5
    assert {"lag_seconds", "undelivered", "pending"} <= set(body["stream"])
    assert body["dispatch_backlog"]["ready"] == 0


@pytest.fixture
def all_locks_held(monkeypatch):
    """As if a manager's sessions held every lock; what is judged here is what it says."""
    held = [(loop.lock_key(name),) for name in dependencies.MANAGER_LOOPS]
    rows = dependencies._rows

    def answer(statement, *arguments):
        return held if statement == dependencies.LOCKS_HELD else rows(statement, *arguments)

    monkeypatch.setattr(dependencies, "_rows", answer)


def test_health_manager__that_is_well_is_healthy(client, all_locks_held):
    tell()
    answer = client.get("/health/manager")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")


def test_health_manager__that_holds_its_locks_and_is_in_trouble_is_not_healthy(
    client, all_locks_held
):
    tell(status_="degraded", state="failing")
    for path in ("/health/manager", "/health"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "h-0 is degraded (reaper failing)" in answer.json()["reason"]


def test_health_manager__that_holds_its_locks_and_is_silent_is_not_healthy(
    client, broker, all_locks_held
):
    tell()
    said = json.loads(broker.hget(streams.MANAGERS, "h-0"))
    broker.hset(streams.MANAGERS, "h-0", json.dumps(said | {"at": said["at"] - 12}))
    body = client.get("/health/manager").json()
    assert "no manager has spoken for 12 s" in body["reason"]
    assert body["instances"][0]["status"] == "silent"


def test_health__says_nothing_of_the_inside(client, monkeypatch):
    monkeypatch.setattr(
        streams,
        "ping",
        lambda: (_ for _ in ()).throw(redis.ConnectionError("Error 111 to redis.internal:6379")),
    )
    body = client.get("/health").content.decode()
    assert "Redis refuses connections" in body
    assert "redis.internal" not in body


def test_health__of_a_frozen_redis_is_answered_within_a_second(client):
    eventually(lambda: client.get("/readyz").status_code == 200, within=5)
    pid = streams.client().info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        slowest = 0.0

        def unready():
            nonlocal slowest
            began = time.monotonic()
            response = client.get("/readyz")
            slowest = max(slowest, time.monotonic() - began)
            return response.status_code == 503

        eventually(unready, within=12)
        assert slowest < 1.0
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: client.get("/readyz").status_code == 200, within=12)


def test_metrics__count_by_route_never_by_raw_path(client):
    client.get("/runs/0190-secret-id")
    client.get("/no/such/path-77")
    text = client.get("/metrics").content.decode()
    assert 'api_requests_total{method="GET",route="/runs/{run_id}",status="401"}' in text
    assert 'route="unrouted"' in text
    assert "secret-id" not in text
    assert "path-77" not in text
    assert "api_request_latency_seconds_bucket" in text
    assert "api_errors_total" in text
    assert "_created" not in text


def test_metrics__mirror_the_managers_sample_with_its_age_until_it_is_too_old(
    client, broker, monkeypatch
):
    exposition.mirror.prober.stop()
    monkeypatch.setattr(exposition.mirror, "_found", None)
    sample = metrics.Sample()
    sample.add("queue_depth", 7, "finance")
    metrics.keep(sample)
    try:
        text = client.get("/metrics").content.decode()
        assert 'queue_depth{queue="finance"} 7.0' in text
        assert "manager_sample_age_seconds" in text
        broker.delete(streams.METRICS_SAMPLE)
        assert "queue_depth{" in client.get("/metrics").content.decode(), "it is not too old"
        found, at = exposition.mirror._found
        monkeypatch.setattr(exposition.mirror, "_found", (found, at - 100))
        assert "queue_depth{" not in client.get("/metrics").content.decode()
    finally:
        exposition.mirror.prober.stop()
