"""Real PostgreSQL and Redis for the tests, thrown away afterwards. Loaded with `-p tests.servers`.

A plugin and not a conftest, because pytest-django reads the settings before any conftest, and the
settings read the servers' addresses. With DATABASE_URL and REDIS_URL set those are used instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

_servers = ExitStack()


def _prepare_environment() -> None:
    kept = {"DATABASE_URL", "REDIS_URL"}
    for name in (
        "LEASE_SECONDS",
        "DATABASE_ANSWER_SECONDS",
        "DATABASE_OWNER_URL",
        "CATALOG_PACKAGES",
        "JWT_SECRET",
        "MASTER_KEY",
        "PUBLIC_URL",
        "WEBHOOK_ALLOWED_NETWORKS",
        "SECRET_KEY",
        "LOG_LEVEL",
    ):
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="abe-test-"))
    folder.chmod(0o700)
    _servers.callback(shutil.rmtree, folder, ignore_errors=True)
    os.environ["VAR_DIR"] = str(folder)
    if all(os.environ.get(name) for name in kept):
        return
    from config.embedded import servers  # noqa: PLC0415 - only when servers are to be started

    urls = _servers.enter_context(servers.session(var_dir=folder, durable=False))
    os.environ["DATABASE_URL"] = urls.database_url
    os.environ["REDIS_URL"] = urls.redis_url


_prepare_environment()


def pytest_unconfigure() -> None:
    """Stop the servers."""
    _servers.close()
