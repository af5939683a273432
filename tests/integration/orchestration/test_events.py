from __future__ import annotations

import json

import pytest

from engine import runs
from engine.models import Run
from orchestration import streams
from orchestration.manager import events, outages
from tests.integration.orchestration.conftest import run_count

REQUEST = {
    "event_type": "automation.run.requested",
    "automation": "lab.squares",
    "data": '{"count": 2}',
}


@pytest.fixture
def consumer(platform, stop, monkeypatch):
    monkeypatch.setattr(streams, "READ_BLOCK_SECONDS", 0.01)
    return events.Events(stop=stop, consumer="one")


def turns(loop: events.Events, count: int = 3) -> None:
    for _ in range(count):
        loop._claimed_at = float("inf")  # look for idle entries only where a test asks for it
        loop.turn()


def refused(broker) -> list[dict[str, str]]:
    return [
        {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in fields.items()
        }
        for _id, fields in broker.xrange(streams.DLQ)
    ]


def pending() -> int:
    return streams.status().pending


def test_events__a_request_becomes_a_run(consumer, platform):
    platform.xadd(streams.EVENTS, REQUEST | {"correlation_id": "c-1"})
    turns(consumer)
    run = Run.objects.get()
    assert (run.automation, run.trigger, run.correlation_id) == ("lab.squares", "event", "c-1")
    assert run.input["count"] == 2
    assert run.dedupe_key.startswith("stream:")
    assert pending() == 0


def test_events__a_malformed_one_goes_to_the_dlq_and_the_next_one_runs(consumer, platform):
    bad = [
        platform.xadd(streams.EVENTS, fields).decode()
        for fields in (
            REQUEST | {"data": "{no"},
            REQUEST | {"automation": "lab.nothing"},
            REQUEST | {"data": '{"count": "many"}'},
            {"event_type": "what.is.this", "reason": "mine"},
            REQUEST | {"data": json.dumps({"count": 1, "x": "\x00"})},
            {b"\xff": b"\xfe"},
        )
    ]
    platform.xadd(streams.EVENTS, REQUEST)
    turns(consumer)
    assert run_count() == 1
    assert pending() == 0
    found = refused(platform)
    assert [entry["error_code"] for entry in found] == [
        "data_not_json",
        "automation_unknown",
        "input_invalid",
        "event_type_unknown",
        "input_invalid",
        "not_utf8",
    ]
    assert [entry["source_entry_id"] for entry in found] == bad
    assert all(entry["reason"] for entry in found)
    assert found[0]["data"] == "{no"
    assert found[3]["original_reason"] == "mine"


def test_events__our_own_events_are_acknowledged_and_nothing_else(consumer, platform):
    platform.xadd(streams.EVENTS, {"event_type": "run.completed", "data": "{}"})
    turns(consumer)
    assert (run_count(), pending(), refused(platform)) == (0, 0, [])


def test_events__delivered_twice_is_one_run(consumer, platform):
    platform.xadd(streams.EVENTS, REQUEST)
    turns(consumer)
    platform.xgroup_setid(streams.EVENTS, streams.GROUP, "0")
    turns(consumer)
    assert run_count() == 1


def test_events__the_producers_id_makes_two_entries_one_run(consumer, platform):
    for _ in range(2):
        platform.xadd(streams.EVENTS, REQUEST | {"event_id": "order-7"})
    turns(consumer)
    assert Run.objects.get().dedupe_key == "event:order-7"


def test_events__a_lost_group_is_made_again_and_nothing_is_lost(consumer, platform):
    turns(consumer)
    platform.xgroup_destroy(streams.EVENTS, streams.GROUP)
    platform.xadd(streams.EVENTS, REQUEST)
    turns(consumer, 5)
    assert run_count() == 1


def test_events__a_flushed_redis_is_begun_again(consumer, platform):
    turns(consumer)
    platform.flushall()
    turns(consumer)
    platform.xadd(streams.EVENTS, REQUEST)
    turns(consumer, 5)
    assert run_count() == 1


def test_events__what_a_crash_left_behind_is_read_first(consumer, platform, stop):
    streams.ensure_group()
    platform.xadd(streams.EVENTS, REQUEST)
    assert len(streams.read_new(consumer="one", count=10)) == 1  # and then the process dies
    turns(consumer)
    assert (run_count(), pending()) == (1, 0)


def test_events__what_another_consumer_left_is_taken_over(platform, stop, monkeypatch):
    monkeypatch.setattr(streams, "READ_BLOCK_SECONDS", 0.01)
    streams.ensure_group()
    platform.xadd(streams.EVENTS, REQUEST)
    streams.read_new(consumer="dead", count=10)
    two = events.Events(stop=stop, consumer="two", claim_idle_seconds=0.0, claim_every_seconds=0.0)
    for _ in range(3):
        two.turn()
    assert (run_count(), pending()) == (1, 0)


def test_events__what_was_trimmed_while_pending_does_not_stop_anything(platform, stop, monkeypatch):
    monkeypatch.setattr(streams, "READ_BLOCK_SECONDS", 0.01)
    streams.ensure_group()
    for _ in range(2):
        platform.xadd(streams.EVENTS, REQUEST)
    streams.read_new(consumer="dead", count=1)
    streams.read_new(consumer="one", count=1)
    platform.xtrim(streams.EVENTS, maxlen=0)
    one = events.Events(stop=stop, consumer="one", claim_idle_seconds=0.0, claim_every_seconds=0.0)
    platform.xadd(streams.EVENTS, REQUEST)
    for _ in range(5):
        one.turn()
    assert (run_count(), pending()) == (1, 0)


def test_events__delivered_too_often_is_refused(platform, stop, monkeypatch):
    monkeypatch.setattr(streams, "READ_BLOCK_SECONDS", 0.01)
    streams.ensure_group()
    platform.xadd(streams.EVENTS, REQUEST)
    streams.read_new(consumer="one", count=10)
    for _ in range(events.MAX_DELIVERIES):
        streams.read_backlog(consumer="one", count=10)
    turns(events.Events(stop=stop, consumer="one"))
    assert run_count() == 0
    assert [entry["error_code"] for entry in refused(platform)] == ["delivered_too_often"]
    assert pending() == 0


def test_events__a_database_outage_costs_no_delivery(consumer, platform, monkeypatch):
    platform.xadd(streams.EVENTS, REQUEST)
    away = next(error for error in outages.DATABASE_ERRORS)
    submit = runs.submit

    def fail(**_arguments):
        raise away("gone")

    monkeypatch.setattr(runs, "submit", fail)
    turns(consumer, 10)
    assert consumer.status()["state"] == "waiting"
    entries = streams.deliveries([entry.id for entry in consumer._kept])
    assert list(entries.values()) == [1]
    monkeypatch.setattr(runs, "submit", submit)
    turns(consumer)
    assert (run_count(), pending()) == (1, 0)
