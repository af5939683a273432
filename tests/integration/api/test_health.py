import os
import signal
import threading
import time

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from config import health, probes
from config.probes import HEALTHY, UNHEALTHY, Answer, Prober
from orchestration import streams
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


def test_prober__reports_an_error_as_the_reason():
    def failing():
        raise ConnectionError("nobody there\nsecond line")

    prober = Prober({"bad": failing})
    assert prober.answers()["bad"] == Answer(UNHEALTHY, "ConnectionError: nobody there")
    prober.stop()


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
