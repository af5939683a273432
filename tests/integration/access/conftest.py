"""Real processes beside the test: web as it is served, commands as they are typed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection

from departments import sync
from engine import publishing
from engine.access import snapshot
from tests.eventually import eventually
from tests.integration.access.things import Things
from tests.integration.orchestration.processes import ROOT, end, free_port
from tests.line import Line

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 60


@pytest.fixture(autouse=True)
def no_leftovers(settings):
    # whitenoise warns of a STATIC_ROOT nobody has collected; throttles count in the cache.
    settings.STATIC_ROOT = None
    cache.clear()


@pytest.fixture
def things(db):
    """One of everything of two departments, by department; undone after the test."""
    before = publishing._publisher
    publishing.register(Line())
    sync.sync_catalog()
    # The signing key is written down when it is first needed: not in what a test undoes.
    snapshot.current()
    yield {
        "lab": Things("lab", "lab.squares"),
        "courier": Things("courier", "courier.letter"),
    }
    publishing.register(before)


@pytest.fixture
def environment(transactional_db, settings, tmp_path):
    """What a process needs to work on the test's database: no Redis, no JWT_SECRET."""
    database = connection.settings_dict
    query = {"host": database["HOST"]} if database["HOST"] else {}
    if database["PORT"]:
        query["port"] = database["PORT"]
    login = quote(database["USER"])
    if database["PASSWORD"]:
        login += ":" + quote(database["PASSWORD"])
    return os.environ | {
        "DATABASE_URL": f"postgresql://{login}@/{database['NAME']}?{urlencode(query)}",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
        "MASTER_KEY": settings.MASTER_KEY,
        "VAR_DIR": str(tmp_path / "var"),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def commands(environment):
    """Run a command of the installation in a process of its own; return what it printed."""

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    return run


class Web:
    """A web process, and a client of it."""

    def __init__(self, environment, log: Path) -> None:
        self.port = free_port()
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "config.asgi:application"),
                    *("--host", "127.0.0.1", "--port", str(self.port)),
                    *("--no-access-log", "--lifespan=off"),
                ],
                cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.log = log
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.client.get("/livez").status_code == 200
        except httpx.HTTPError:
            return False

    def me(self, token: str) -> httpx.Response:
        return self.client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})

    def accepts(self, token: str) -> bool:
        return self.me(token).status_code == 200

    def code(self, token: str) -> str:
        answer = self.me(token)
        return "" if answer.status_code == 200 else answer.json()["code"]

    def post(self, path: str, **body) -> httpx.Response:
        return self.client.post(path, json=body)


@pytest.fixture
def webs(environment, tmp_path):
    """Two web processes on one database."""
    found = [Web(environment, tmp_path / f"web{number}.log") for number in (1, 2)]
    try:
        for web in found:
            eventually(web.is_up, within=START_SECONDS, what=f"web up; see {web.log}")
        yield found
    finally:
        for web in found:
            web.client.close()
        end([web.process for web in found])


@pytest.fixture
def ann(environment, settings):
    """A superuser whose password `pw` other processes can check too."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    return User.objects.create_superuser("ann", "", "pw")


@pytest.fixture
def without_jwt_secret(settings):
    settings.JWT_SECRET = ""
