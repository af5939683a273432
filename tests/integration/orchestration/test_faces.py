"""What people and Prometheus see: the streams command, the manager's pages, the mirrored gauges."""

from __future__ import annotations

import io
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from prometheus_client import CollectorRegistry, generate_latest

from engine import lanes
from engine.models import Run, StepRun
from orchestration import metrics, status, streams
from orchestration.manager import gauges
from orchestration.manager.events import CLAIM_IDLE_SECONDS
from orchestration.manager.gauges import Gauges
from orchestration.manager.http import Server
from tests.integration.orchestration.conftest import aged

NINE = timedelta(seconds=9)


def streams_command(*arguments: str):
    out = io.StringIO()
    call_command("streams", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.fixture
def pending_entry(platform):
    streams.ensure_group()
    entry_id = platform.xadd(streams.EVENTS, {"event_type": "run.completed"}).decode()
    streams.read_new(consumer="dead", count=1)
    return entry_id


def test_streams_info__before_there_is_a_group(platform):
    assert "none yet" in streams_command("info")[0]["group"]
    platform.xadd(streams.EVENTS, {"event_type": "x"})
    assert "none yet" in streams_command("info")[0]["group"]
    assert streams_command("pending") == []


def test_streams_info__length_group_and_consumers(pending_entry, platform):
    platform.xgroup_create(streams.EVENTS, "others", id="0")
    stream, consumer, others, dlq = streams_command("info")
    assert (stream["length"], stream["pending"], stream["undelivered"]) == (1, 1, 0)
    assert stream["first"] == stream["last"] == stream["last_delivered"] == pending_entry
    assert consumer["consumer"] == "dead"
    assert (others["group"], others["last_delivered"]) == ("others", "0-0")
    assert dlq == {"stream": "automation.dlq", "length": 0}


def test_streams_info__shows_names_that_are_no_text_and_obeys_none(pending_entry, platform):
    platform.xgroup_create(streams.EVENTS, b"\xff\x1b[2J", id="0")
    platform.xgroup_createconsumer(streams.EVENTS, streams.GROUP, b"\xfe\x1b[2J")
    out = io.StringIO()
    call_command("streams", "info", stdout=out)
    assert "\\x1b[2J" in out.getvalue()
    assert out.getvalue().replace("\n", "").isprintable()


def test_streams_pending__is_filtered(pending_entry):
    (found,) = streams_command("pending", "--consumer", "dead", "--idle", "0")
    assert (found["id"], found["deliveries"]) == (pending_entry, 1)
    assert streams_command("pending", "--consumer", "alive") == []
    assert streams_command("pending", "--idle", "3600") == []


def test_streams_claim__is_a_dry_run_until_applied(pending_entry):
    streams_command("claim", "alive", "--idle", "0")
    assert streams_command("pending")[0]["consumer"] == "dead"
    *_, summary = streams_command("claim", "alive", "--idle", "0", "--apply")
    assert summary == {"entries": 1, "claimed": True, "by": "alive"}
    (found,) = streams_command("pending")
    # Handed over is not delivered, and the next look of a manager takes it.
    assert (found["consumer"], found["deliveries"]) == ("alive", 1)
    assert found["idle_seconds"] >= CLAIM_IDLE_SECONDS


def test_streams_claim__takes_the_entries_that_are_named(pending_entry, platform):
    other = platform.xadd(streams.EVENTS, {"event_type": "run.completed"}).decode()
    streams.read_new(consumer="dead", count=1)
    streams_command("claim", "alive", other, "--idle", "0", "--apply")
    held = {one["id"]: one["consumer"] for one in streams_command("pending")}
    assert held == {pending_entry: "dead", other: "alive"}
    with pytest.raises(CommandError, match=f"Not pending .* {other}"):
        streams_command("claim", "alive", other, "--idle", "0", "--apply")


def test_streams_reset__lets_the_group_read_again(pending_entry):
    assert streams_command("reset", "--to", "0")["entries"] == 1
    assert streams.status().undelivered == 0
    streams_command("reset", "--to", "0", "--apply")
    assert streams.status().undelivered == 1


def test_streams_reset__forgets_a_consumer_and_loses_none_of_its_entries(pending_entry, platform):
    with pytest.raises(CommandError, match="no other consumer"):
        streams_command("reset", "--consumer", "dead", "--apply")
    platform.xgroup_createconsumer(streams.EVENTS, streams.GROUP, "alive")
    streams_command("reset", "--consumer", "dead")
    assert len(streams_command("pending", "--consumer", "dead")) == 1
    done = streams_command("reset", "--consumer", "dead", "--apply")
    assert done == {"consumer": "dead", "entries": 1, "to": "alive", "applied": True}
    assert [one["consumer"] for one in streams_command("pending")] == ["alive"]
    assert "dead" not in str(streams_command("info"))
    with pytest.raises(CommandError, match="no consumer of manager; there are: alive"):
        streams_command("reset", "--consumer", "dead", "--apply")


@pytest.mark.parametrize(
    "words",
    [
        ("reset", "--to", "yesterday"),
        ("claim", "alive", "1-x"),
        ("claim", "alive", "--limit", "0"),
        ("pending", "--idle", "-1"),
        ("pending", "--idle", "nan"),
        ("pending", "--idle", "inf"),
        ("claim", "alive", "--idle", "1e300"),
    ],
)
def test_streams_command__refuses_what_is_no_entry(platform, words):
    with pytest.raises(CommandError, match=r"entry|--limit"):
        streams_command(*words)


def test_streams_command__redis_away_is_one_line(platform, redis_elsewhere):
    redis_elsewhere("redis://127.0.0.1:1/0")
    with pytest.raises(CommandError, match="Redis is away"):
        streams_command("info")


def test_gauges__a_sample_is_kept_for_web(platform, stop, submitted):
    Gauges(stop=stop).turn()
    registry = CollectorRegistry()
    registry.register(metrics.MirrorCollector())
    text = generate_latest(registry).decode()
    assert 'queue_depth{queue="lab"} 1.0' in text
    assert 'redis_stream_pending{group="manager",stream="automation.events"} 0.0' in text
    assert "redis_eviction_ok 1.0" in text
    assert "runs_stuck 0.0" in text
    assert "manager_sample_age_seconds" in text


def depth_and_age() -> list[float]:
    sample = metrics.Sample()
    gauges._database(sample)
    wanted = ("queue_depth", "queue_oldest_age_seconds")
    return [value for name in wanted for n, labels, value in sample.values
            if (n, labels) == (name, ["lab"])]  # fmt: skip


def test_gauges__count_the_backlog_that_stands_in_line_and_not_what_must_wait(platform, submitted):
    aged(submitted, 3)
    StepRun.objects.filter(key="total").update(state="ready", pending=0, ready_at=Now() - NINE)
    depth, age = depth_and_age()
    assert depth == 2
    assert 9 <= age < 60
    lanes.limit(slug="lab", max_concurrency=1)
    depth, age = depth_and_age()
    assert depth == 1, "it waits for the limit: more workers would not help"
    assert 3 <= age < 9
    lanes.limit(slug="lab", max_concurrency=None)
    Run.objects.update(state="paused")
    assert depth_and_age()[0] == 1


def test_mirror__shows_nothing_when_nobody_samples_or_redis_is_away(platform, redis_elsewhere):
    registry = CollectorRegistry()
    registry.register(metrics.MirrorCollector())
    assert generate_latest(registry) == b""
    redis_elsewhere("redis://127.0.0.1:1/0")
    assert generate_latest(registry) == b""


def test_status__what_managers_say_and_how_long_ago(platform):
    status.tell(name="h-0", status="healthy", loops={"reaper": {"state": "working"}})
    platform.hset(streams.MANAGERS, "rubbish", b"{")
    (found,) = status.managers()
    assert (found.name, found.status, found.is_fresh) == ("h-0", "healthy", True)
    status.leave(name="h-0")
    assert status.managers() == []


@pytest.mark.parametrize(
    ("health", "path", "code"),
    [
        ("healthy", "/health", 200),
        ("degraded", "/health", 503),
        ("degraded", "/livez", 200),
        ("healthy", "/metrics", 200),
        ("healthy", "/nothing", 404),
    ],
)
def test_server__pages(health, path, code):
    server = Server(
        address="127.0.0.1", port=0, health=lambda: {"status": health}, registry=CollectorRegistry()
    )
    server.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            found = answer.status
    except urllib.error.HTTPError as exc:
        with exc:
            found = exc.code
    finally:
        server.shutdown()
        server.server_close()
    assert found == code


def test_server__says_nothing_of_a_client_that_hung_up(capfd):
    server = Server(
        address="127.0.0.1", port=0, health=lambda: {"status": "x"}, registry=CollectorRegistry()
    )
    handled = threading.Event()

    def shut(request):
        Server.shutdown_request(server, request)
        handled.set()

    server.shutdown_request = shut
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as link:
            # Closed by a reset, as by a probe that only looks whether the port is open.
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert handled.wait(10)
    finally:
        server.shutdown()
        server.server_close()
    assert capfd.readouterr().err == ""
