"""A deploy under load: workers of the code before, on the database of the code of today.

The order of a deploy is: migrate, start the new manager and workers, drain the old ones. What the
old ones meet in the meantime is a schema they do not know. `KEEP=1` keeps old code and logs.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Q

from departments import sync
from engine import runs
from engine.models import Lease, Run, StepRun
from tests.eventually import eventually
from tests.integration.orchestration.processes import end

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = "*/migrations/0*.py"
RUNS, ITEMS, SECONDS = 30, 30, 0.03
TROUBLE = re.compile(r"\b(ERROR|CRITICAL|Traceback)\b|\[(error|critical)\s*\]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class NoHistoryError(Exception):
    """Say that this copy of the project lacks the commits that the test compares with."""


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoHistoryError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def before_newest_migration() -> str:
    """The commit before the one that brought the newest migration."""
    if git("ls-files", "--others", "--exclude-standard", "--", MIGRATIONS):
        return git("rev-parse", "HEAD")  # it is not even committed yet
    newest = git("log", "-1", "--format=%H", "--diff-filter=A", "--", MIGRATIONS)
    if not newest:
        raise NoHistoryError("no commit here adds a migration")
    # The oldest commit of a shallow clone seems to add everything; it has no parent here.
    return git("rev-parse", "--verify", f"{newest}^")


def last_release() -> str:
    """The commit of the last release."""
    return git("rev-parse", f"{releases()[0]}^{{commit}}")


def releases() -> list[str]:
    """The tags of the releases before this code, newest first."""
    try:
        return git("tag", "--list", "v*", "--sort=-creatordate", "--merged", "HEAD").split()
    except (NoHistoryError, OSError):
        return []  # the other case says so


OLD = [before_newest_migration, *([last_release] if releases() else [])]


@pytest.fixture(params=OLD, ids=lambda find: find.__name__)
def old_code(request, tmp_path):
    """The code of before, unpacked."""
    try:
        commit = request.param()
    except (NoHistoryError, OSError) as exc:
        text = f"the deploy is NOT tested, for want of history (a shallow clone?): {exc}"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    folder = tmp_path / "old"
    folder.mkdir()
    archive = tmp_path / "old.tar"
    git("archive", "--output", str(archive), commit)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    print(f"\nold code: {git('log', '-1', '--format=%h %s', commit)}")
    return folder


@dataclass
class Hands:
    """A running process of either code."""

    process: subprocess.Popen[bytes]
    log: Path

    def troubles(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if TROUBLE.search(line)]


@pytest.fixture
def platform(legal_moves_only, broker):
    """The database of today with the catalog, each move of a state checked; an empty Redis."""
    sync.sync_catalog()
    return broker


@pytest.fixture
def start(platform, tmp_path):
    """Start processes of either code; they end, by their id, with the test."""
    database = connection.settings_dict
    query = {name.lower(): database[name] for name in ("HOST", "PORT") if database[name]}
    login = ":".join(quote(database[name]) for name in ("USER", "PASSWORD") if database[name])
    environment = os.environ | {
        "DATABASE_URL": f"postgresql://{login}@/{database['NAME']}?{urlencode(query)}",
        "REDIS_URL": settings.REDIS_URL,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "PYTHONUNBUFFERED": "1",
        "LEASE_SECONDS": "30",
    }
    running: list[Hands] = []

    def begin(name: str, *words: str, code: Path = ROOT) -> Hands:
        path = tmp_path / f"{name}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=code,
                env=environment | {"VAR_DIR": str(tmp_path / f"var-{name}")},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        running.append(Hands(process, path))
        return running[-1]

    yield begin
    end([hands.process for hands in running])
    if os.environ.get("KEEP"):
        print("kept:", shutil.copytree(tmp_path, tempfile.mkdtemp() + "/deploy"))


def manager(start) -> Hands:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    return start("manager", "manage.py", "manager", "--port", str(port))


def worker(start, name: str, *, code: Path = ROOT) -> Hands:
    words = ["-m", "celery", "-A", "config", "worker", "-Q", "lab,orchestrator,dead_letter"]
    words += ["-n", f"{name}@%h", "-c", "2", "--without-gossip", "--without-mingle", "-Ofair"]
    return start(name, *words, code=code)


def submit(automation: str, **values) -> None:
    runs.submit(automation=automation, input=values, trigger="command")


def done_by(name: str) -> int:
    return StepRun.objects.filter(worker__startswith=f"{name}@", state="succeeded").count()


def all_ended() -> bool:
    return not Run.objects.exclude(state="succeeded").exists()


def test_deploy__under_load_loses_and_doubles_nothing(old_code, start, platform, ledger, tmp_path):
    manager(start)
    old = worker(start, "old", code=old_code)
    for _ in range(RUNS):
        submit("lab.booking", count=ITEMS, seconds=SECONDS)
    for _ in range(4):
        submit("lab.patient", folder=str(tmp_path), seconds=2.0)
    eventually(lambda: done_by("old") >= 30, within=40, what=old.log)
    new = worker(start, "new")
    eventually(lambda: done_by("new") >= 30, within=40, what=new.log)
    assert not all_ended(), "the load ended before the old worker was asked to"
    asked_at = time.monotonic()
    old.process.terminate()
    assert old.process.wait(30) == 0
    drained = time.monotonic() - asked_at
    left = StepRun.objects.exclude(state="succeeded").count()
    assert not StepRun.objects.filter(state="running", worker__startswith="old@").exists()
    eventually(all_ended, within=90, what="everything that was accepted has succeeded")
    by = {name: done_by(name) for name in ("old", "new")}
    print(f"drained in {drained:.1f} s with {left} steps left; steps done: {by}")
    assert min(by.values()) > 0
    assert sum(by.values()) == StepRun.objects.count()
    assert len(ledger()) == RUNS * ITEMS, "each effect once: the table's key refuses doubles"
    assert not StepRun.objects.filter(Q(crashes__gt=0) | Q(failures__gt=0) | Q(attempt__gt=1))
    assert not Lease.objects.exists()
    assert old.troubles() == []
    assert new.troubles() == []


def test_drain__an_old_worker_finishes_what_runs_and_gives_the_rest_back(
    old_code, start, platform, tmp_path
):
    manager(start)
    old = worker(start, "old", code=old_code)
    number = 12
    for _ in range(number):
        submit("lab.patient", folder=str(tmp_path), seconds=1.5)
    busy = StepRun.objects.filter(key="patient", state="running")
    eventually(lambda: busy.count() == 2, within=30, what=old.log)
    old.process.terminate()
    assert old.process.wait(30) == 0
    done = StepRun.objects.filter(key="patient", state="succeeded").count()
    assert 2 <= done < number
    assert not busy.exists()
    # In the queue or in line before it; what the worker had in its hands it has given back.
    rest = StepRun.objects.filter(key="patient").exclude(state="succeeded")
    assert set(rest.values_list("state", "claim")) <= {("ready", None), ("queued", None)}
    worker(start, "new")
    eventually(all_ended, within=60)
    assert not StepRun.objects.filter(Q(crashes__gt=0) | Q(attempt__gt=1)).exists()
    assert old.troubles() == []
