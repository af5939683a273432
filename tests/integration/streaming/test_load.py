"""200 streams at one web process: what they cost, and what they leave to other requests."""

from __future__ import annotations

import socket
import time

from tests.integration.streaming.test_streams import tell

STREAMS, REQUESTS = 200, 100
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"


def opened(web, path):
    link = socket.create_connection(("127.0.0.1", web.port), timeout=60)
    bearer = web.headers()["Authorization"]
    link.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\r\n".encode()
    )
    return link


def read_until(link, wanted):
    received = b""
    while wanted not in received:
        piece = link.recv(100_000)
        assert piece, received
        received += piece


def p95(web):
    taken = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        assert web.client.get("/runs").status_code == 200
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[int(REQUESTS * 0.95)]


def test_streams__of_200_listeners_starve_nobody(start_web, run_id, connect):
    web = start_web()
    watching = connect(autocommit=True)

    def connections():
        return watching.execute(CONNECTIONS).fetchone()[0]

    alone = p95(web)
    threads, before = web.threads, connections()
    links = [opened(web, f"/runs/{run_id}/stream") for _ in range(STREAMS)]
    try:
        for link in links:
            read_until(link, b"event: snapshot")
        beside = p95(web)
        print(
            f"\nGET /runs p95 {alone:.0f} ms alone, {beside:.0f} ms beside {STREAMS} streams; "
            f"threads {threads} -> {web.threads}, connections {before} -> {connections()}"
        )
        began = time.monotonic()
        last = tell(run_id)
        for link in links:
            read_until(link, f"id: {last}\n".encode())
        print(f"one event reached all {STREAMS} within {time.monotonic() - began:.2f} s")
        # The reader's thread and the asking one; requests may have started more of their 16.
        assert web.threads <= threads + 2 + 16
        assert connections() <= before + 2 + 16
        assert beside < max(300, 10 * alone)
    finally:
        for link in links:
            link.close()
