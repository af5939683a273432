"""What holds for Flower wherever it runs: signed in, looking only, nothing of a payload.

Flower executes this file when it starts (`FLOWER_CONF`, set by `config.celery`) and takes its own
options from the names here. Its command line overrides them.
"""

from __future__ import annotations

import sys

from tornado.options import options

from config import flower_guard

basic_auth = list(options.basic_auth or []) or flower_guard.logins()
if problem := flower_guard.problem(basic_auth, by_oauth=bool(options.auth)):
    sys.exit(problem)
flower_guard.close_metrics()

address = options.address or "127.0.0.1"
# Acts belong where they are checked and recorded: API, admin and commands.
read_only = flower_guard.only_reads()
# Workers send no events until they are asked to: see orchestration/README.md.
enable_events = False
# It is a window, not an archive.
max_tasks = 5000
format_task = flower_guard.readable
