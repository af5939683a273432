"""Make the tables of F: `python -m tests.bench.baseline.tables`."""

from __future__ import annotations

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.bench.baseline.settings"

import django

django.setup()

from django.core.management import call_command  # noqa: E402 - settings are read above

if __name__ == "__main__":
    call_command("migrate", run_syncdb=True, verbosity=0)
