"""Loops are turned by hand here, in the test's thread, on the test's database and Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings
from django.db import connection, connections
from django.db.models import F

from departments import sync
from engine import runs
from engine.models import Run, StepRun
from orchestration import publisher, streams
from tests.integration.orchestration.processes import ROOT, end


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def catalog(transactional_db):
    """The catalog, synchronised: lanes and versions are there."""
    sync.sync_catalog()


@pytest.fixture
def platform(catalog, broker):
    """An empty Redis, an empty database with the catalog, and a publisher that starts afresh."""
    publisher.publisher._closed_until = 0.0
    publisher.publisher._looks.clear()
    return broker


@pytest.fixture
def redis_elsewhere(monkeypatch):
    """Point the platform at another Redis address for a while; returns a function."""
    original = settings.REDIS_URL

    def point(url: str) -> None:
        publisher.publisher._closed_until = 0.0
        monkeypatch.setattr(settings, "REDIS_URL", url)

    yield point
    point(original)
    streams._client.cache_clear()


@pytest.fixture
def submitted(platform):
    """A run of three chained steps, its first one sent and not begun."""
    return runs.submit(automation="lab.squares", input={"count": 2}, trigger="command").run_id


def variables_of_test(folder: Path) -> dict[str, str]:
    """Return what a process needs to work on the test's database and Redis."""
    database = connection.settings_dict
    query = {"host": database["HOST"]} if database["HOST"] else {}
    if database["PORT"]:
        query["port"] = database["PORT"]
    login = quote(database["USER"])
    if database["PASSWORD"]:
        login += ":" + quote(database["PASSWORD"])
    return os.environ | {
        "DATABASE_URL": f"postgresql://{login}@/{database['NAME']}?{urlencode(query)}",
        "REDIS_URL": settings.REDIS_URL,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "VAR_DIR": str(folder / "var"),
        "PYTHONUNBUFFERED": "1",
        "LEASE_SECONDS": "30",
    }


@pytest.fixture
def environment(platform, tmp_path):
    """What a process needs to work on the test's database and Redis."""
    return variables_of_test(tmp_path)


@pytest.fixture
def started(environment, tmp_path):
    """Start processes; end them, by their id, with the test."""
    running = []

    def start(*arguments: str, **changes: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{len(running)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment | changes,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        process.log = Path(log.name)
        running.append(process)
        return process

    yield start
    end(running)


def states(run_id) -> dict[str, str]:
    return dict(StepRun.objects.filter(run_id=run_id).values_list("key", "state"))


def run_count() -> int:
    return Run.objects.count()


def in_thread(loop):
    """Run a loop in a thread that closes its connection, as the service does."""

    def body() -> None:
        try:
            loop.run()
        finally:
            connections.close_all()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread


def aged(run_id, seconds: float) -> None:
    """Let everything that was sent have been sent longer ago."""
    StepRun.objects.filter(run_id=run_id).update(
        dispatched_at=F("dispatched_at") - timedelta(seconds=seconds)
    )
