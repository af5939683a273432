"""Health while a dependency stands still and 50 calls hang in it; and without a worker."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.eventually import eventually
from tests.promptness import TLS, Promptness, hanging

if TYPE_CHECKING:
    from collections.abc import Iterator

PATHS = ("/livez", "/readyz", "/health", "/health/manager", "/metrics")
#: Of the manager and the worker, which say it of themselves.
OTHERS = ((8080, "/health"), (8080, "/metrics"), (8090, "/metrics"))
#: What each of them may take, whatever hangs, in seconds (CONTRACT §2).
WITHIN = 1.0
HANGING = 50
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


def pages(stack) -> dict[str, str]:
    """Return what is asked, web's pages by their path, the others' by port and path."""
    host = "http://127.0.0.1"
    return {path: stack.url + path for path in PATHS} | {
        f"{port}{path}": f"{host}:{port + stack.shift}{path}" for port, path in OTHERS
    }


def health(stack) -> httpx.Response:
    return httpx.get(f"{stack.url}/health", timeout=10, verify=TLS)


def secrets_of(stack) -> list[str]:
    found = [urlsplit(url).password for url in (stack.redis_url, stack.database_url)]
    return [secret for secret in (*found, stack.token) if secret]


@pytest.mark.parametrize(("name", "entry"), [("postgres", "database"), ("redis", "redis")])
def test_health__of_a_dependency_that_stands_still(stack, name, entry):
    eventually(stack.is_ready, within=30)
    victim = stack.find(name)
    prompt = Promptness(pages(stack))
    secrets = secrets_of(stack)
    assert secrets

    def told() -> bool:
        found = prompt.ask()
        assert not [one for one in secrets for answer in found.values() if one in answer.text]
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

    def call() -> None:
        stack.call("POST", "/runs", automation="lab.squares", input={"count": 1})

    with hanging(HANGING, call), frozen(victim, *victim.children(recursive=True)):
        began = time.monotonic()
        eventually(told, within=SHOWN_WITHIN)
        shown = time.monotonic() - began
        reason = prompt.ask()["/health"].json()["dependencies"][entry]["reason"]
        # And on: the answers stay as quick however long it lasts.
        eventually(lambda: told() and time.monotonic() - began > shown + 3, within=20)
    slowest = prompt.slowest()
    print(f"\n{name} stands still: shown after {shown:.1f} s, {reason!r}, slowest", slowest)
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
            answer = health(stack)
            return answer.status_code == 503 and "workers" in answer.json()["reason"]

        eventually(told, within=30)
        body = health(stack).json()
        print(f"\nno worker for a queue with work: shown after {time.monotonic() - began:.0f} s")
        assert body["status"] == "degraded"
        assert "lab" in body["dependencies"]["workers"]["reason"]
        assert body["dependencies"]["workers"]["queues"]["lab"] == 0
    eventually(stack.is_ready, within=30)
