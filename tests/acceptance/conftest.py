"""One running platform for all modules; what it leaves behind is a failure."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import pytest

from tests.acceptance.stack import Stack


@pytest.fixture(scope="session")
def stack():
    """The platform, started by `manage.py up` with the lab's steps in its catalog."""
    with tempfile.TemporaryDirectory(prefix="abe-acc-") as folder:
        found = Stack(Path(folder), CANCEL_GRACE_SECONDS="1")
        try:
            found.start()
            yield found
        finally:
            if found.process is not None and found.process.poll() is None:
                found.stop(signal.SIGTERM)
