"""A proxy before each dependency, and real processes that know the dependencies only through it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection

from tests.chaos.network.platform import Platform
from tests.chaos.network.proxy import Proxy
from tests.integration.orchestration.conftest import (  # noqa: F401 - fixtures
    catalog,
    environment,
    platform,
    started,
)


@pytest.fixture
def database_proxy(transactional_db):
    """Before PostgreSQL; `url` is the address through it."""
    values = connection.settings_dict
    host, port = values["HOST"], values["PORT"] or "5432"
    local = host.startswith("/")
    address = str(Path(host) / f".s.PGSQL.{port}") if local else (host, int(port))
    proxy = Proxy(address, postgresql=True)
    login = values["USER"] + (f":{values['PASSWORD']}" if values["PASSWORD"] else "")
    proxy.url = f"postgresql://{login}@127.0.0.1:{proxy.port}/{values['NAME']}?sslmode=disable"
    yield proxy
    proxy.close()


@pytest.fixture
def redis_proxy():
    """Before Redis; `url` is the address through it."""
    given = urlsplit(settings.REDIS_URL)
    proxy = Proxy((given.hostname or "127.0.0.1", given.port or 6379))
    login = given.netloc.rpartition("@")[0]
    address = f"127.0.0.1:{proxy.port}"
    proxy.url = given._replace(netloc=f"{login}@{address}" if login else address).geturl()
    yield proxy
    proxy.close()


@pytest.fixture
def processes(database_proxy, redis_proxy, ledger, started):  # noqa: F811 - a fixture
    """A manager and a worker behind the proxies; they end before the proxies do."""
    found = Platform(started, DATABASE_URL=database_proxy.url, REDIS_URL=redis_proxy.url)
    yield found
    found.stop_feeding()
    # Nothing may keep the processes from ending.
    database_proxy.heal()
    redis_proxy.heal()
