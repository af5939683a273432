"""What the garbage collector passes over in each kind of long-lived process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: Django and what is built on it are more than this; a bare interpreter is a fraction.
MANY = 50_000
WEB = "import config.asgi"
WORKER = """
from celery import signals
from config.celery import app
signals.celeryd_after_setup.send(sender='worker@here', instance=None, conf=app.conf)
"""
MANAGER = """
import django; django.setup()
from orchestration.manager import service
from django.core.management import call_command
service.Service = lambda **_: type('Silent', (), {'run': lambda self: None})()
call_command('manager', '--port', '1')
"""


@pytest.mark.parametrize("start", [WEB, WORKER, MANAGER], ids=["web", "worker", "manager"])
def test_startup__is_frozen_in(start):
    program = f"{start}\nimport gc; print(gc.get_freeze_count())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings.test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > MANY
