"""Health while a dependency stands still and 50 calls hang in it; and without a worker."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.acceptance.stack import TLS
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

PATHS = ("/livez", "/readyz", "/health", "/health/manager", "/metrics")
#: Of the manager and the worker, which say it of themselves.
OTHERS = ((8080, "/health"), (8080, "/metrics"), (8090, "/metrics"))
#: What each of them may take, whatever hangs, in seconds (CONTRACT §2).
WITHIN = 1.0
HANGING = 50
#: A page that asks nobody: when it takes longer than this, the machine is short of processors, and
#: what the others took says nothing of a dependency. Were their threads taken, this one hung too.
YARDSTICK, YARDSTICK_WITHIN, LEAST_ROUNDS = "/livez", 0.3, 5
#: How soon a dependency that stands still is said to, and one that came back, in seconds.
SHOWN_WITHIN = 25
pytestmark = pytest.mark.timeout(240)


@contextlib.contextmanager
def frozen(*processes: psutil.Process) -> Iterator[None]:
    """Let processes stand still for a while."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@contextlib.contextmanager
def hanging(stack, count: int) -> Iterator[None]:
    """Keep so many calls of the API under way, each of which waits for what does not answer."""
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            with contextlib.suppress(httpx.HTTPError):
                stack.call("POST", "/runs", automation="lab.squares", input={"count": 1})

    with ThreadPoolExecutor(count) as pool:
        for _ in range(count):
            pool.submit(call)
        try:
            yield
        finally:
            stop.set()


def ask(stack, path: str, *, port: int = 8000) -> tuple[httpx.Response, float]:
    url = f"http://127.0.0.1:{port + stack.shift}{path}"
    began = time.monotonic()
    answer = httpx.get(url, timeout=10, verify=TLS)
    return answer, time.monotonic() - began


def secrets_of(stack) -> list[str]:
    found = [urlsplit(url).password for url in (stack.redis_url, stack.database_url)]
    return [secret for secret in (*found, stack.token) if secret]


@pytest.mark.parametrize(("name", "entry"), [("postgres", "database"), ("redis", "redis")])
def test_health__of_a_dependency_that_stands_still(stack, name, entry):
    eventually(stack.is_ready, within=30)
    victim = stack.find(name)
    rounds: list[dict[str, float]] = []
    secrets = secrets_of(stack)
    assert secrets

    def told() -> bool:
        found, took = {}, {}
        for port, path in (*((8000, path) for path in PATHS), *OTHERS):
            name_of = path if port == 8000 else f"{port}{path}"
            found[name_of], took[name_of] = ask(stack, path, port=port)
            assert not [one for one in secrets if one in found[name_of].text]
        rounds.append(took)
        assert found["8080/metrics"].status_code == found["8090/metrics"].status_code == 200
        assert found["/livez"].status_code == 200
        assert found["/metrics"].status_code == 200
        health = found["/health"]
        return (
            health.status_code == found["/readyz"].status_code == 503
            and found["/health/manager"].status_code == found["8080/health"].status_code == 503
            and health.json()["status"] == "unhealthy"
            and health.json()["dependencies"][entry]["status"] == "unhealthy"
        )

    with frozen(victim, *victim.children(recursive=True)), hanging(stack, HANGING):
        began = time.monotonic()
        eventually(told, within=SHOWN_WITHIN)
        shown = time.monotonic() - began
        reason = ask(stack, "/health")[0].json()["dependencies"][entry]["reason"]
        # And on: the answers stay as quick however long it lasts.
        eventually(lambda: told() and time.monotonic() - began > shown + 3, within=20)
    fair = [took for took in rounds if took[YARDSTICK] < YARDSTICK_WITHIN]
    assert len(fair) >= LEAST_ROUNDS, rounds
    slowest = {path: round(max(took[path] for took in fair), 2) for path in fair[0]}
    print(f"\n{name} stands still: shown after {shown:.1f} s, {reason!r}, slowest of", len(fair))
    print(slowest)
    assert max(slowest.values()) < WITHIN, slowest
    assert "no answer" in reason
    eventually(stack.is_ready, within=60)


@pytest.mark.slow
def test_health__is_not_healthy_while_a_department_with_work_has_no_worker(stack):
    eventually(stack.is_ready, within=60)
    hands = stack.find("worker")
    with frozen(hands, *stack.pool("worker")):
        stack.submit("lab.squares", count=1)
        began = time.monotonic()

        def told() -> bool:
            answer, _ = ask(stack, "/health")
            return answer.status_code == 503 and "workers" in answer.json()["reason"]

        eventually(told, within=30)
        body = ask(stack, "/health")[0].json()
        print(f"\nno worker for a queue with work: shown after {time.monotonic() - began:.0f} s")
        assert body["status"] == "degraded"
        assert "lab" in body["dependencies"]["workers"]["reason"]
        assert body["dependencies"]["workers"]["queues"]["lab"] == 0
    eventually(stack.is_ready, within=30)
