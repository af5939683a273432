"""One platform for all crash points; each test begins with everything in its place."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.installation import Installation

# A line a request would hide the measured times.
logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def installation():
    """The platform, started once."""
    folder = Path(tempfile.mkdtemp(prefix="abe-chaos-"))
    found = Installation(folder)
    try:
        found.start()
        yield found
    finally:
        if found.process is not None and found.process.poll() is None:
            found.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def stack(installation):
    """The platform, whole, with nothing armed."""
    installation.settle()
    yield installation
    installation.points.clear()
