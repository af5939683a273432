"""What holds for Flower wherever it runs: signed in, looking only, nothing of a payload.

Flower executes this file when it starts (`FLOWER_CONF`, set by `config.celery`) and takes its own
options from the names here. Its command line overrides them.
"""

from __future__ import annotations

import sys

from django.core.exceptions import ImproperlyConfigured
from tornado.options import options

from config import flower_guard

try:
    basic_auth = list(options.basic_auth or []) or flower_guard.logins()
    # Acts belong where they are checked and recorded: API, admin and commands.
    read_only = flower_guard.only_reads()
except ImproperlyConfigured as error:
    sys.exit(f"error: {error}")
if problem := flower_guard.problem(basic_auth, by_oauth=bool(options.auth)):
    sys.exit(problem)
flower_guard.close_metrics()
flower_guard.refuse_what_cannot_be_compared()

address = options.address or "127.0.0.1"
# Workers send no events until they are asked to: see orchestration/README.md.
enable_events = False
# It is a window, not an archive.
max_tasks = 5000
format_task = flower_guard.readable
