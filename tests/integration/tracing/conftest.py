"""Spans of the test's own process, posted to a receiver on this machine."""

from __future__ import annotations

import pytest
from django.db import connection

from config.otlp.tracer import Tracer
from engine import tracing
from tests.collector import Collector


@pytest.fixture
def collector():
    with Collector() as found:
        yield found


@pytest.fixture
def tracer(collector):
    """Tracing as `config.tracing` switches it on, to the collector."""
    found = Tracer(endpoint=f"{collector.url}/v1/traces", headers="")
    tracing.register(found)
    yield found
    tracing.register(None)
    collector.answering.set()
    if found._processor is not None:
        found._processor.shutdown()


@pytest.fixture
def quiet_afterwards(line):
    """End the session of the heartbeat's thread, which lives as long as the process does."""
    yield
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
