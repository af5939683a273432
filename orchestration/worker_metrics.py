"""Let a worker's children count in files that outlive them, and show the sum on a port.

Off without WORKER_METRICS_PORT: then children count in their own memory, for nobody.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from celery import bootsteps
from celery.utils.log import get_logger
from django.conf import settings
from prometheus_client import values

from orchestration import exporter

log = get_logger(__name__)

#: How often the exporter is looked after, in seconds.
LOOK_SECONDS = 5.0
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the folder below it is made for us alone # nosec B108
#: Where prometheus_client's own classes look for their folder.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class WorkerMetrics:
    """The folder of one worker, and the process that reads it."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._exporter: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Make the folder and start the exporter; call it in the parent, before it forks."""
        if not settings.WORKER_METRICS_PORT:
            return
        self._folder = _folder()
        os.environ[FOLDER_VARIABLE] = str(self._folder)
        # What prometheus_client does by itself when the variable stands before its import, which
        # would be before ours. Values are made when a metric first gets its labels: none has yet.
        values.ValueClass = values.MultiProcessValue()
        self._start()

    def look(self) -> None:
        """Start the exporter again should it have ended; the numbers are in the files."""
        if self._exporter is not None and self._exporter.poll() is not None:
            log.warning("the exporter of metrics ended (%s), starting it", self._exporter.poll())
            self._start()

    def _start(self) -> None:
        command = [
            *(sys.executable, "-m", "orchestration.exporter", str(self._folder), str(os.getpid())),
            *(settings.WORKER_METRICS_ADDRESS, str(settings.WORKER_METRICS_PORT)),
        ]
        self._exporter = subprocess.Popen(
            command, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, env=_environment()
        )


def _folder() -> Path:
    """Return a new folder for this process alone; take away those of workers that are gone.

    In memory where that can be: no disk is written, and a full one ends no child (the kernel kills
    who first touches a page of a mapped file that has no room).
    """
    home = Path(SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else tempfile.gettempdir())
    ours = f"ai-business-engine-{_namespace()}-"
    for left in home.glob(f"{ours}*"):
        # Of a worker that was killed together with its exporter.
        pid = left.name.removeprefix(ours).partition("-")[0]
        if pid.isdigit() and not exporter.is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{ours}{os.getpid()}-", dir=home))


def _namespace() -> str:
    """Return in which world this process has its number: containers may share their memory."""
    try:
        return re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return "0"


def _environment() -> dict[str, str]:
    """Return the little the exporter needs: no address of a server, no secret."""
    names = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "VAR_DIR", "LANG")
    return {name: os.environ[name] for name in names if name in os.environ}


class MetricsStep(bootsteps.StartStopStep):
    """Look after the exporter by the parent's own timer."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self._entry: Any = None
        super().__init__(consumer, **kwargs)

    def start(self, consumer: Any) -> None:
        """Begin to look; called again after each reconnection to the broker."""
        self._entry = consumer.timer.call_repeatedly(LOOK_SECONDS, worker_metrics.look)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop looking."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def shutdown(self, consumer: Any) -> None:
        """Stop looking at the end of the process."""
        self.stop(consumer)


worker_metrics = WorkerMetrics()
