"""With whom Flower starts, and with whom it refuses to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from config import flower_guard

ROOT = Path(__file__).resolve().parents[3]
PRODUCTION = "config.settings.production"


@pytest.fixture
def production(monkeypatch):
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", PRODUCTION)
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)


def test_login__of_one_machine_is_that_of_up(monkeypatch, settings, tmp_path):
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)
    settings.VAR_DIR = tmp_path
    (first,) = flower_guard.logins()
    assert first == f"operator:{(tmp_path / 'secrets' / 'flower_password').read_text().strip()}"
    assert flower_guard.logins() == [first]
    assert flower_guard.problem([first], by_oauth=False) == ""


def test_login__of_production_must_be_given(production, monkeypatch, tmp_path):
    assert flower_guard.logins() == []
    said = flower_guard.problem([], by_oauth=False)
    assert "FLOWER_BASIC_AUTH is not set" in said
    assert "\n" not in said
    (tmp_path / "login").write_text("ann:long-and-unlikely-7\n")
    monkeypatch.setenv("FLOWER_BASIC_AUTH_FILE", str(tmp_path / "login"))
    assert flower_guard.logins() == ["ann:long-and-unlikely-7"]
    assert flower_guard.problem(flower_guard.logins(), by_oauth=False) == ""
    assert flower_guard.problem([], by_oauth=True) == ""


@pytest.mark.parametrize(
    ("login", "word"),
    [
        ("ann", "name:password"),
        (":long-and-unlikely-7", "name:password"),
        ("ann:", "name:password"),
        ("ann:short", "12 are needed"),
        ("ann:changeme", "shipped with"),
        ("ann:längeres-passwort-7", "ASCII"),
    ],
)
def test_login__of_production_must_be_good(production, login, word):
    said = flower_guard.problem([login], by_oauth=False)
    assert word in said
    assert "short" not in said


def test_tasks__are_named_in_words():
    found = flower_guard.readable(SimpleNamespace(name="orchestration.execute"))
    assert found.name == "run steps"
    assert flower_guard.readable(SimpleNamespace(name="other")).name == "other"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "error: FLOWER_BASIC_AUTH is not set"),
        ({"FLOWER_BASIC_AUTH_FILE": "/none/such"}, "error: FLOWER_BASIC_AUTH_FILE: cannot read"),
    ],
)
def test_flower__in_production_ends_at_once_without_a_password(tmp_path, variables, said):
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "config", "flower", "--port=0"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": PRODUCTION,
            "VAR_DIR": str(tmp_path),
            "SECRET_KEY": "7f3a9c1e5b2d8f4a6c0e9b7d3f1a5c8e2b6d4f0a",
            "MASTER_KEY": "c2e8b4d6f0a1937f5c3e9d1b7a5f3c8e6d2b4a0f",
            "DATABASE_URL": "postgresql://engine_app:u7Kq92-mZp41-xw@db/engine",
            "REDIS_URL": "redis://:n4Ht63-qWe85-rt@redis:6379/0",
        }
        | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
