"""The counter of calls: exact over processes, quick, and no reason to refuse while it is away."""

import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import redis

from engine.access.throttling import Rate
from orchestration import call_counter, streams
from tests.eventually import eventually
from tests.integration.faces import token
from tests.integration.orchestration.processes import free_port

#: What the server may spend on a call, and how long a caller may wait for one that stands still.
SCRIPT_SECONDS = 0.0003
WAIT_SECONDS = 0.05
LIMIT = 40


@pytest.fixture
def counter(broker, settings):
    settings.THROTTLE_WAIT_SECONDS = 5
    return call_counter.CallCounter()


def passing(counter, rate, *, tries, caller="ann"):
    return sum(counter.take(caller, rate).passes for _ in range(tries))


@pytest.mark.parametrize("limit", [1, 3, 7, 997])
def test_counter__passes_exactly_the_limit_whatever_it_divides_into(counter, limit):
    assert passing(counter, Rate("read", limit, 86_400), tries=limit + 3) == limit


def test_counter__passes_exactly_the_limit_to_many_threads(counter):
    rate = Rate("read", LIMIT, 86_400)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: counter.take("ann", rate).passes, range(4 * LIMIT)))
    assert sum(found) == LIMIT


def test_counter__lets_calls_pass_again_one_by_one(counter):
    rate = Rate("read", 10, 1)
    assert passing(counter, rate, tries=10) == 10
    refused = eventually(lambda: (v := counter.take("ann", rate)) and not v.passes and v, within=5)
    assert refused.remaining == 0
    assert 0 < refused.retry_in <= 0.1
    assert 0.9 <= refused.full_in <= 1.0
    eventually(lambda: counter.take("ann", rate).passes, within=5)


def test_counter__keeps_a_key_no_longer_than_it_counts(counter, broker):
    counter.take("ann", Rate("read", 10, 60))
    (key,) = broker.keys("throttle:*")
    assert b"ann" not in key
    assert 5900 < broker.pttl(key) <= 6010


def test_counter__goes_on_when_redis_forgets_script_and_key(counter, broker):
    rate = Rate("read", 2, 86_400)
    assert passing(counter, rate, tries=3) == 2
    broker.flushall()
    broker.script_flush()
    assert passing(counter, rate, tries=3) == 2


def test_script__costs_redis_little(counter, broker):
    rate = Rate("read", 1_000_000, 3600)
    counter.take("ann", rate)
    broker.config_resetstat()
    trips = []
    for _ in range(500):
        began = time.perf_counter()
        counter.take("ann", rate)
        trips.append(time.perf_counter() - began)
    spent = broker.info("commandstats")["cmdstat_evalsha"]["usec_per_call"] / 1e6
    print(
        f"\nthrottle: {spent * 1e6:.0f} µs in Redis (bound {SCRIPT_SECONDS * 1e6:.0f}),"
        f" median round trip {statistics.median(trips) * 1e6:.0f} µs"
    )
    assert spent < SCRIPT_SECONDS


def test_counter__lets_pass_at_once_while_redis_stands_still_and_says_so_once(
    counter, broker, settings, caplog
):
    settings.THROTTLE_WAIT_SECONDS = WAIT_SECONDS
    rate = Rate("read", 1, 86_400)
    server = psutil.Process(broker.info("server")["process_id"])
    eventually(lambda: counter.take("ann", rate), within=5)
    server.send_signal(signal.SIGSTOP)
    try:
        began = time.perf_counter()
        assert counter.take("ann", rate) is None
        first = time.perf_counter() - began
        began = time.perf_counter()
        assert all(counter.take("ann", rate) is None for _ in range(100))
        following = time.perf_counter() - began
        counter._closed_until = 0.0
        assert counter.take("ann", rate) is None
    finally:
        server.send_signal(signal.SIGCONT)
    print(f"\nRedis stopped: first call waits {first * 1000:.0f} ms, the next {following * 10:.3f}")
    # Five times: other work of this machine is no part of the promise.
    assert first < 5 * WAIT_SECONDS
    assert following < WAIT_SECONDS
    assert [r.message for r in caplog.records if "throttle_counts_nothing" in r.message][1:] == []
    assert "throttle_counts_nothing" in caplog.text
    counter._closed_until = 0.0
    settings.THROTTLE_WAIT_SECONDS = 5
    assert not eventually(lambda: counter.take("ann", rate), within=5).passes
    assert "throttle_counts_again" in caplog.text


def test_counter__lets_pass_while_redis_is_full(counter, broker, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'.")

    monkeypatch.setattr(counter, "_script", lambda: refuse)
    assert counter.take("ann", Rate("read", 1, 60)) is None


@pytest.mark.slow
def test_two_web_processes__pass_exactly_the_limit_between_them(started, platform):
    ports = [free_port(), free_port()]
    for port in ports:
        started(
            "-m", "uvicorn", "config.asgi:application", "--host", "127.0.0.1", "--port", str(port),
            "--lifespan=off", "--no-access-log",
            THROTTLE_RATES=f"read={LIMIT}/day,anonymous=1000/min", THROTTLE_WAIT_SECONDS="10",
        )  # fmt: skip

    def is_there(port):
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    for port in ports:
        eventually(lambda port=port: is_there(port), within=60)
    bearer = {"Authorization": f"Bearer {token('runs.read', subject='two', ttl_seconds=600)}"}
    clients = [httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) for port in ports]

    def ask(number):
        answered = clients[number % 2].get("/runs?limit=1", headers=bearer)
        return number % 2, answered.status_code, answered.headers["ratelimit"]

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, range(3 * LIMIT)))
    for client in clients:
        client.close()
    passed = [(port, field) for port, status, field in answers if status == 200]
    assert len(passed) == LIMIT
    assert {port for port, _ in passed} == {0, 1}, "both processes let some pass"
    remaining = sorted(int(field.split("r=")[1].split(";")[0]) for _, field in passed)
    assert remaining == list(range(LIMIT)), "each of the processes counts the other's"
    assert {status for _, status, _ in answers} == {200, 429}
    assert streams.client().keys("throttle:read:*")
