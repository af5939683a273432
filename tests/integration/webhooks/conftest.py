from __future__ import annotations

import pytest

from engine.webhooks import addresses, endpoints
from orchestration.manager.outbox import Outbox
from orchestration.manager.webhooks import Webhooks
from tests.eventually import eventually
from tests.integration.orchestration.conftest import catalog, platform, stop, submitted
from tests.receiver import Receiver

__all__ = ["catalog", "platform", "stop", "submitted"]


@pytest.fixture(autouse=True)
def loopback(settings):
    """This machine may be called."""
    settings.WEBHOOK_ALLOWED_NETWORKS = addresses.networks(["127.0.0.0/8"])


@pytest.fixture
def receiver():
    with Receiver() as found:
        yield found


@pytest.fixture
def told(platform, receiver):
    """An endpoint that is told of everything: it and its secret."""
    return endpoints.create(url=receiver.url, actor="test")


@pytest.fixture
def outbox(stop):
    """Turn what has happened into deliveries."""
    return lambda: Outbox(stop=stop).turn()


@pytest.fixture
def loop(stop, platform):
    """A manager's loop, turned by hand."""
    found = Webhooks(stop=stop)
    yield found
    found.sender.close()


def settle(loop) -> None:
    """Turn a loop until nothing is on the way any more."""

    def quiet():
        loop.turn()
        assert loop.state == "working", loop.error
        return not loop.sender.busy

    loop.turn()
    eventually(quiet, within=20, what="the answers")
