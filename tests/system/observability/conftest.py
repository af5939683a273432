"""One running platform for this folder, watched by a Prometheus and an Alertmanager of its own."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import pytest

from tests.acceptance.stack import Stack
from tests.system.observability.binaries import NAMES, binary
from tests.system.observability.monitoring import Monitoring


@pytest.fixture(scope="session")
def watched():
    """The platform with the lab's steps; a token that may read departments too."""
    for name in NAMES:
        binary(name)
    with tempfile.TemporaryDirectory(prefix="abe-obs-") as folder:
        found = Stack(Path(folder), CANCEL_GRACE_SECONDS="1")
        try:
            found.start()
            scopes = "runs.read,runs.write,departments.read,dead_letters.read,dead_letters.write"
            found.token = found.manage("mint_jwt", "--scopes", scopes).strip()
            yield found
        finally:
            if found.process is not None and found.process.poll() is None:
                found.process.send_signal(signal.SIGCONT)
                found.stop(signal.SIGTERM)


@pytest.fixture(scope="session")
def monitoring(watched):
    """Prometheus and Alertmanager that watch the platform, with windows at a 60th."""
    place = watched.folder / "monitoring"
    place.mkdir()
    with Monitoring(place, shift=watched.shift) as found:
        yield found
