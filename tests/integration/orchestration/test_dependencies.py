"""The manager says which of its dependencies it reaches: the alerts tell Redis from PostgreSQL."""

from __future__ import annotations

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest

from orchestration.manager import outages
from orchestration.manager.service import Service


@pytest.fixture
def exposed():
    # What is away is the process's to know: other tests have left it as they do.
    for name in (outages.DATABASE, outages.BROKER):
        outages.end(name)
    service = Service(instance=0, address="127.0.0.1", port=0, registry=CollectorRegistry())
    registry = CollectorRegistry()
    registry.register(service)
    yield lambda: generate_latest(registry).decode()
    service.server.server_close()
    outages.end(outages.BROKER)


def test_dependency_up__tells_redis_from_the_database(exposed):
    assert 'manager_dependency_up{dependency="redis"} 1.0' in exposed()
    outages.begin(outages.BROKER, redis.ConnectionError("refused"))
    text = exposed()
    assert 'manager_dependency_up{dependency="redis"} 0.0' in text
    assert 'manager_dependency_up{dependency="database"} 1.0' in text
    outages.end(outages.BROKER)
    assert 'manager_dependency_up{dependency="redis"} 1.0' in exposed()
