"""Health behind a network that swallows everything, while 50 calls hang in it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.chaos.network.test_web import web  # noqa: F401 - a fixture
from tests.eventually import eventually

PATHS = ("/livez", "/readyz", "/health", "/health/manager", "/metrics")
WITHIN, SHOWN_WITHIN, HANGING = 1.0, 15, 50
pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("entry", ["database", "redis"])
def test_health__of_a_dependency_behind_a_black_hole(
    web,  # noqa: F811 - the fixture
    database_proxy,
    redis_proxy,
    entry,
):
    proxy = {"database": database_proxy, "redis": redis_proxy}[entry]
    base, headers = web.client.base_url, web.client.headers
    stop = threading.Event()
    slowest: dict[str, float] = {}

    def hang() -> None:
        body = json.dumps({"automation": "lab.squares", "input": {"count": 1}})
        with httpx.Client(base_url=base, headers=headers, timeout=40) as client:
            while not stop.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    client.post("/runs", content=body)

    def told() -> bool:
        answers = {}
        for path in PATHS:
            began = time.monotonic()
            answers[path] = httpx.get(f"{base}{path}", timeout=10)
            slowest[path] = max(slowest.get(path, 0.0), time.monotonic() - began)
        found = answers["/health"].json()["dependencies"][entry]
        return (
            answers["/readyz"].status_code == answers["/health"].status_code == 503
            and found["status"] == "unhealthy"
            and "no answer" in found["reason"]
        )

    assert web.client.get("/readyz").status_code == 200
    proxy.blackhole()
    began = time.monotonic()
    with ThreadPoolExecutor(HANGING) as pool:
        try:
            for _ in range(HANGING):
                pool.submit(hang)
            eventually(told, within=SHOWN_WITHIN)
            shown = time.monotonic() - began
            eventually(lambda: told() and time.monotonic() - began > shown + 4, within=20)
        finally:
            stop.set()
            proxy.heal()
    print(f"\n{entry} blackholed: shown after {shown:.1f} s, slowest", slowest)
    assert max(slowest.values()) < WITHIN, slowest
    eventually(lambda: web.client.get("/readyz").status_code == 200, within=60)
