"""Production settings in processes of their own: clean by Django's list, shut to weak secrets."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from tests.acceptance.stack import TLS
from tests.eventually import eventually
from tests.integration.orchestration.processes import ROOT

GOOD = {name: secrets.token_hex(32) for name in ("SECRET_KEY", "MASTER_KEY", "JWT_SECRET")}
CHECK = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
ENTRIES = [
    CHECK,
    ("-m", "uvicorn", "config.asgi:application", "--port", "1"),
    ("-m", "celery", "-A", "config", "worker"),
    ("manage.py", "manager"),
]


def environment(*, folder, **changes):
    found = {k: v for k, v in os.environ.items() if k not in {"LOG_JSON", "ALLOWED_HOSTS"}}
    found |= {"DJANGO_SETTINGS_MODULE": "config.settings.production", "VAR_DIR": str(folder)}
    return found | GOOD | {"ALLOWED_HOSTS": "engine.example.org"} | changes


def run(*words, folder, **changes):
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(folder=folder, **changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@contextmanager
def started(*words, folder):
    away = {
        "DATABASE_URL": "postgresql://engine_app:u7Kq92-mZp41-xw@127.0.0.1:1/engine",
        "REDIS_URL": "redis://:n4Ht63-qWe85-rt@127.0.0.1:1/0",
    }
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment(folder=folder, **away)
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_production__is_clean_by_djangos_own_list(tmp_path):
    done = run(*CHECK, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues (0 silenced)" in done.stdout + done.stderr


def test_check__sees_what_is_not_clean(tmp_path):
    done = run(*CHECK, folder=tmp_path, SECURE_SSL_REDIRECT="0")
    assert done.returncode == 1
    assert "security.W008" in done.stderr


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda words: words[1])
def test_process__does_not_start_with_a_weak_secret(tmp_path, entry):
    done = run(*entry, folder=tmp_path, MASTER_KEY="a-key-i-found-in-an-example-of-the-docs")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(
        "MASTER_KEY is a placeholder or a value that was published; "
        "make one with: openssl rand -hex 32"
    ), done.stderr
    assert "found-in-an-example" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
        ({"JWT_SECRET": GOOD["SECRET_KEY"]}, "SECRET_KEY and JWT_SECRET have the same secret"),
        ({"MASTER_KEY": GOOD["MASTER_KEY"] + ",short"}, "MASTER_KEY has 5 characters"),
        ({"DATABASE_URL": "postgresql://app:postgres@db/app"}, "DATABASE_URL: its password"),
        (
            {"DATABASE_OWNER_URL": "postgresql://owner:postgres@db/app"},
            "DATABASE_OWNER_URL: its password",
        ),
        ({"REDIS_URL": "redis://:redis@cache:6379/0"}, "REDIS_URL: its password"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL must be one of"),
        ({"LOG_FILE_BYTES": "-1"}, "LOG_FILE_BYTES must be 0 or more"),
    ],
)
def test_settings__refuse_by_variable(tmp_path, changes, word):
    done = run("manage.py", "check", folder=tmp_path, **changes)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {word}")


@pytest.mark.timeout(120)
def test_web__is_seen_from_this_machine_beside_its_proxy(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("-m", "uvicorn", "config.asgi:application", "--port", str(port), "--lifespan=off")
    with started(*words, folder=tmp_path), httpx.Client(verify=TLS, timeout=10) as client:

        def answer(path: str) -> int:
            try:
                return client.get(f"http://127.0.0.1:{port}{path}").status_code
            except httpx.ConnectError:
                return 0

        eventually(lambda: answer("/livez") == 200, within=60)
        assert answer("/metrics") == 200
        # No database and no Redis here: what counts is that they say so.
        assert {answer("/health"), answer("/health/manager"), answer("/readyz")} == {503}
        assert {answer("/runs"), answer("/admin/"), answer("/healthy")} == {301}


def test_jwt_secret__may_be_left_out(tmp_path):
    assert run("manage.py", "check", folder=tmp_path, JWT_SECRET="").returncode == 0
