"""A stream while the database is away, a client that takes nothing, a process that ends."""

from __future__ import annotations

import re
import signal
import socket
import time

import psutil

from tests.chaos.network.conftest import database_proxy  # noqa: F401 - a fixture
from tests.eventually import eventually
from tests.integration.streaming.test_streams import tell

HISTORY = (
    "INSERT INTO engine_runevent (run_id, kind, actor, data, at)"
    " SELECT %s, 'step.warning', '', jsonb_build_object('n', n, 'text', repeat('x', 1000)),"
    " clock_timestamp() FROM generate_series(1, 20000) n"
)


def test_stream__outlasts_the_database_and_misses_nothing(
    start_web,
    listen,
    run_id,
    database_proxy,  # noqa: F811 - a fixture
):
    web = start_web(
        DATABASE_URL=database_proxy.url, STREAM_HEARTBEAT_SECONDS="0.3", DATABASE_ANSWER_SECONDS="2"
    )
    stream = listen(web, f"/runs/{run_id}/stream")
    began = stream.hears("snapshot").id
    tell(run_id)
    stream.hears("step.warning")
    database_proxy.blackhole()
    ids = [tell(run_id, n=n) for n in range(20)]
    beats = len(stream.comments)
    eventually(lambda: len(stream.comments) > beats + 10, within=20)
    assert len(stream.told) == 1
    database_proxy.heal()
    eventually(lambda: len(stream.told) == 21, within=30, what=web.process.log)
    assert stream.told[1:] == ids
    assert not stream.is_over
    assert began < stream.told[0]


def test_stream__of_a_client_that_takes_nothing_holds_no_history(web, listen, run_id, connect):
    """What he does not take is read when he does; the process keeps a short queue, no more."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as link:
        bearer = web.headers()["Authorization"]
        link.sendall(
            f"GET /runs/{run_id}/stream?last_event_id=0 HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: {bearer}\r\n\r\n".encode()
        )
        assert link.recv(100)
        before = psutil.Process(web.process.pid).memory_info().rss
        connect(autocommit=True).execute(HISTORY, [run_id])
        other = listen(web, f"/runs/{run_id}/stream")
        other.hears("snapshot")
        assert web.client.get(f"/runs/{run_id}").status_code == 200
        grown = psutil.Process(web.process.pid).memory_info().rss - before
        received = bytearray()
        while b'"n":20000' not in received[-5000:]:
            piece = link.recv(1_000_000)
            assert piece
            received += piece
    told = [
        int(number) for number in re.findall(rb"^id: (\d+)\nevent: step.w", received, re.MULTILINE)
    ]
    assert len(told) == 20_000
    assert told == sorted(set(told))
    print(f"\n{len(received) / 1e6:.0f} MB waited for a client; web grew by {grown / 1e6:.1f} MB")
    assert grown < 20e6


def test_stream__ends_at_once_when_its_process_is_asked_to(start_web, listen, run_id):
    web = start_web()
    streams = [listen(web, f"/runs/{run_id}/stream") for _ in range(5)]
    for stream in streams:
        stream.hears("snapshot")
    began = time.monotonic()
    web.process.send_signal(signal.SIGTERM)
    for stream in streams:
        stream.ends(within=10)
        assert (stream.events[-1].name, stream.events[-1].data["code"]) == (
            "closed",
            "shutting_down",
        )
    # Far below the time that uvicorn would wait for them (20 s here).
    web.process.wait(timeout=10)
    print(f"\nweb with 5 open streams ended {time.monotonic() - began:.2f} s after SIGTERM")
    assert "Traceback" not in web.process.log.read_text()


def test_stream__nobody_listens_and_nothing_is_asked(web, listen, run_id, connect):
    stream = listen(web, f"/runs/{run_id}/stream")
    stream.hears("snapshot")
    watching = connect(autocommit=True)
    name = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"

    def readers() -> int:
        return watching.execute(name, ["ai-business-engine-streams"]).fetchone()[0]

    assert readers() == 1
    stream.close()
    eventually(lambda: readers() == 0, within=10)
