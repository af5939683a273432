"""Health behind a network that swallows everything, while 50 calls hang in it."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.chaos.network.test_web import web  # noqa: F401 - a fixture
from tests.eventually import eventually
from tests.promptness import TLS, Promptness, hanging

PATHS = ("/livez", "/readyz", "/health", "/health/manager", "/metrics")
WITHIN, SHOWN_WITHIN, HANGING = 1.0, 20, 50
pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("entry", ["database", "redis"])
def test_health__of_a_dependency_behind_a_black_hole(
    web,  # noqa: F811 - the fixture
    database_proxy,
    redis_proxy,
    entry,
):
    proxy = {"database": database_proxy, "redis": redis_proxy}[entry]
    base = str(web.client.base_url).rstrip("/")
    prompt = Promptness({path: base + path for path in PATHS})
    body = json.dumps({"automation": "lab.squares", "input": {"count": 1}})

    def told() -> bool:
        answers = prompt.ask()
        found = answers["/health"].json()["dependencies"][entry]
        return (
            answers["/readyz"].status_code == answers["/health"].status_code == 503
            and found["status"] == "unhealthy"
            and "no answer" in found["reason"]
        )

    assert web.client.get("/readyz").status_code == 200
    with httpx.Client(
        base_url=base,
        headers=web.client.headers,
        timeout=40,
        verify=TLS,
        limits=httpx.Limits(max_connections=HANGING),
    ) as client:
        proxy.blackhole()
        began = time.monotonic()
        with hanging(HANGING, lambda: client.post("/runs", content=body)):
            try:
                eventually(told, within=SHOWN_WITHIN)
                shown = time.monotonic() - began
                eventually(lambda: told() and time.monotonic() - began > shown + 4, within=20)
            finally:
                proxy.heal()
    slowest = prompt.slowest()
    print(f"\n{entry} blackholed: shown after {shown:.1f} s, slowest", slowest)
    assert max(slowest.values()) < WITHIN, slowest
    eventually(lambda: web.client.get("/readyz").status_code == 200, within=60)
