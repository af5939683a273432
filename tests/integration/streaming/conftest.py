"""Real web processes on the test's database; no worker, so that a test alone makes the history."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from engine import runs
from tests.integration.orchestration.conftest import (  # noqa: F401 - fixtures
    catalog,
    environment,
    platform,
    started,
    variables_of_test,
)
from tests.integration.orchestration.processes import ROOT, end
from tests.integration.streaming.listening import Listener
from tests.integration.streaming.web import Web


@pytest.fixture
def start_web(started):  # noqa: F811 - a fixture
    """Start web processes of this test's own; the words are settings."""
    opened = []

    def start(**changes):
        opened.append(Web(started, **changes))
        return opened[-1]

    yield start
    for found in opened:
        found.client.close()


@pytest.fixture(scope="module")
def web_of_module(django_db_setup, django_db_blocker, tmp_path_factory):
    """A web process for all tests of a module, whose streams beat three times a second."""
    folder = tmp_path_factory.mktemp("web")
    with django_db_blocker.unblock():
        variables = variables_of_test(folder)
    log = folder / "web.log"

    def start(*arguments, **changes):
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=variables | changes,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process.log = log
        return process

    found = Web(start, STREAM_HEARTBEAT_SECONDS="0.3")
    yield found
    found.client.close()
    end([found.process])


@pytest.fixture
def web(platform, web_of_module):  # noqa: F811 - a fixture
    """The module's web process, over a database that this test has to itself."""
    return web_of_module


@pytest.fixture
def listen():
    """Open streams that end with the test."""
    opened = []

    def open_stream(web, path, **how):
        found = Listener(web, path, **how)
        opened.append(found)
        return found

    yield open_stream
    for listener in opened:
        listener.close()


@pytest.fixture
def run_id(platform):  # noqa: F811 - a fixture
    """A run that stands still."""
    return runs.submit(automation="lab.squares", input={"count": 2}, trigger="command").run_id


@pytest.fixture
def connect(environment):  # noqa: F811 - a fixture
    """Open connections of the test's own; each transaction is the test's."""
    opened = []

    def open_connection(**how):
        found = psycopg.connect(environment["DATABASE_URL"], **how)
        opened.append(found)
        return found

    yield open_connection
    for connection in opened:
        connection.close()
