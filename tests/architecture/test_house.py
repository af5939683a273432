"""The house: imports and foreign keys go right only; settings and their example agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from django.apps import apps

ROOT = Path(__file__).resolve().parents[2]
#: From the top of the house to its foundation; a room may point at those after it.
ROOMS = ["config", "orchestration", "departments", "engine"]


def test_imports__keep_the_contracts():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_foreign_keys__go_right_only():
    for model in apps.get_models():
        room = model._meta.app_label
        if room not in ROOMS:
            continue
        for field in model._meta.get_fields():
            target = getattr(field, "related_model", None)
            if not getattr(field, "concrete", False) or target is None:
                continue
            other = target._meta.app_label
            if other in ROOMS:
                assert ROOMS.index(other) >= ROOMS.index(room), f"{model.__name__}.{field.name}"


def test_migrations__are_complete():
    done = subprocess.run(
        [sys.executable, "-m", "django", "makemigrations", "--check", "--dry-run", "--skip-checks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_env_example__names_every_setting():
    read = set()
    for path in (ROOT / "config").rglob("*.py"):
        source = path.read_text()
        read |= set(
            re.findall(
                r"\b(?:text|words|flag|integer|count|level|number|rates|networks|database|redis_location)"
                r'\(\s*"([A-Z_]+)"',
                source,
            )
        )
    example = set(
        re.findall(r"^#?\s?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    )
    assert read - example == set(), "read by the settings and not in .env.example"
    assert example - read - {"DJANGO_SETTINGS_MODULE"} == set(), "in .env.example, read by nobody"


def test_inits__are_empty():
    for room in ROOMS:
        for path in (ROOT / room).rglob("__init__.py"):
            if path.parent.name != "models":
                assert path.read_text() == "", path


def test_models__have_plurals_that_are_words():
    """Django only adds an s; the admin shows what comes of it."""
    plurals = [str(model._meta.verbose_name_plural) for model in apps.get_models()]
    assert [plural for plural in plurals if re.search(r"([^aeiou]ys|shs|xs|ss)$", plural)] == []
