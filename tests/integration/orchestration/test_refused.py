"""Refused events: listed, mended, sent again exactly once, given up, exported."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections

from engine.errors import NotFoundError
from engine.models import AuditRecord, Run
from orchestration import refused, streams
from orchestration.manager import events

WRONG = {
    b"event_type": b"automation.run.requested",
    b"automation": b"lab.squares",
    b"department": b"lab",
    b"data": b"{no",
    b"reason": b"the sender's own",
}


@pytest.fixture
def consumer(platform, stop, monkeypatch):
    monkeypatch.setattr(streams, "READ_BLOCK_SECONDS", 0.01)
    return events.Events(stop=stop, consumer="one")


def turn(consumer):
    for _ in range(3):
        consumer._claimed_at = float("inf")
        consumer.turn()


@pytest.fixture
def letters(consumer, platform):
    """Three refused events, beside the mirror of a dead letter; returns their ids, oldest first."""
    platform.xadd(streams.EVENTS, WRONG)
    platform.xadd(streams.EVENTS, {"event_type": "odd"})
    platform.xadd(streams.EVENTS, {b"event_type": b"\xff\xfe"})
    turn(consumer)
    platform.xadd(streams.DLQ, {"event_type": "dead_letter.created", "run_id": "x"})
    return [entry.id for entry in reversed(refused.newest(limit=10))]


def dlq(*words):
    out = io.StringIO()
    call_command("dlq", *words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def document(*words):
    return json.loads(dlq(*words, "--json"))


def test_list__shows_refused_events_only_and_by_filter(letters):
    assert [one["id"] for one in document("list", "--events")] == letters[::-1]
    for option, value, found in (
        ("--error-code", "event_type_unknown", [letters[1]]),
        ("--automation", "lab.squares", [letters[0]]),
        ("--department", "lab", [letters[0]]),
        ("--limit", "1", [letters[2]]),
        ("--error-code", "none", []),
    ):
        assert [one["id"] for one in document("list", "--events", option, value)] == found
    assert "data_not_json" in dlq("list", "--events")


def test_show__gives_the_fields_as_they_came(letters):
    shown = document("show", letters[0])
    assert shown["fields"] == {name.decode(): value.decode() for name, value in WRONG.items()}
    assert shown["error"]["code"] == "data_not_json"
    assert "\\xff\\xfe" in dlq("show", letters[2])
    with pytest.raises(CommandError, match="no refused event 1-1"):
        dlq("show", "1-1")


def test_requeue__is_a_dry_run_until_applied_and_then_makes_one_run(letters, consumer, platform):
    words = ("requeue", letters[0], "--set", 'data={"count": 3}')
    assert "Nothing is changed" in dlq(*words)
    assert platform.xlen(streams.DLQ) == 4
    assert "sent again as" in dlq(*words, "--apply")
    turn(consumer)
    assert Run.objects.get().input["count"] == 3
    assert letters[0] not in [one["id"] for one in document("list", "--events")]
    with pytest.raises(CommandError, match="no refused event"):
        dlq(*words, "--apply")
    turn(consumer)
    assert Run.objects.count() == 1
    record = AuditRecord.objects.filter(action="event.requeue").get()
    assert record.object_id == letters[0]


def test_requeue__of_one_that_would_be_refused_again_says_why_and_keeps_it(letters, platform):
    with pytest.raises(CommandError, match="data is not JSON"):
        dlq("requeue", letters[0], "--apply")
    with pytest.raises(CommandError, match="no field automation"):
        dlq("requeue", letters[0], "--set", "automation=", "--set", "data={}", "--apply")
    assert platform.xlen(streams.DLQ) == 4


def test_requeue__that_redis_refuses_keeps_the_event(letters, platform):
    """A script of Redis takes 8,000 words; what it did before it failed stays done."""
    event = {"event_type": "automation.run.requested", "automation": "lab.squares"}
    event |= {f"f{n}": "x" for n in range(4_500)}
    added = {"source_entry_id": "1-1", "error_code": "odd"}
    kept = platform.xadd(streams.DLQ, event | added).decode()
    with pytest.raises(CommandError, match="Redis refused"):
        dlq("requeue", kept, "--apply")
    assert refused.one(entry_id=kept).automation == "lab.squares"


def test_requeue__tells_of_those_it_sent_when_others_are_gone(letters, platform, monkeypatch):
    found = refused.newest(limit=10)
    refused.discard(found[0])
    monkeypatch.setattr(refused, "newest", lambda **_filters: found)
    out = io.StringIO()
    with pytest.raises(CommandError, match="any more"):
        call_command("dlq", "discard", "--all", "--events", "--apply", "--json", stdout=out)
    assert [one["id"] for one in json.loads(out.getvalue())] == letters[1::-1]


def test_dlq__shows_what_strangers_sent_and_obeys_none_of_it(consumer, platform):
    nasty = "x\x1b]0;mine\x07\x9b2J\nID forged"
    entry = {"event_type": "automation.run.requested", "automation": nasty, f"f{nasty}": nasty}
    platform.xadd(streams.EVENTS, entry)
    turn(consumer)
    (event,) = refused.newest(limit=1)
    for words in (("list", "--events"), ("show", event.id), ("discard", event.id)):
        said = dlq(*words)
        assert "\\x1b]0;mine" in said, words
        assert said.replace("\n", "").isprintable(), words
        assert "\nID forged" not in said, words
    for words in (("show", event.id, "--json"), ("export", "--events")):
        said = dlq(*words)
        assert said.replace("\n", "").isprintable(), words
        assert json.loads(said)["fields"]["automation"] == nasty


def test_requeue__by_several_at_once_sends_once(letters, platform):
    event = refused.one(entry_id=letters[0])
    fields = refused.mended(event, {"data": "{}"})
    before = platform.xlen(streams.EVENTS)

    def send(_number):
        try:
            return refused.requeue(event, fields)
        except NotFoundError:
            return None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(send, range(8)))
    assert sum(entry is not None for entry in sent) == 1
    assert platform.xlen(streams.EVENTS) == before + 1


def test_discard__takes_the_event_away_once_applied(letters, platform):
    assert "Would discard 1" in dlq("discard", letters[1])
    assert platform.xlen(streams.DLQ) == 4
    dlq("discard", letters[1], "--apply")
    assert [one["id"] for one in document("list", "--events")] == [letters[2], letters[0]]
    dlq("discard", "--all", "--events", "--apply")
    # The mirror of a dead letter is nobody's to give up here.
    assert platform.xlen(streams.DLQ) == 1


def test_export__writes_a_line_an_event_into_a_new_private_file(letters, tmp_path):
    lines = [json.loads(line) for line in dlq("export", "--events").splitlines()]
    assert [one["id"] for one in lines] == letters[::-1]
    target = tmp_path / "events.jsonl"
    dlq("export", "--events", "--to", str(target))
    assert [json.loads(line) for line in target.read_text().splitlines()] == lines
    assert target.stat().st_mode & 0o077 == 0
    for path, word in ((target, "exists"), (tmp_path / "no" / "x", "Cannot write")):
        with pytest.raises(CommandError, match=word):
            dlq("export", "--events", "--to", str(path))


def test_dlq__says_that_there_is_nothing_to_do(platform):
    for words in (["requeue", "--all"], ["discard", "--all"], ["discard", "--all", "--events"]):
        assert dlq(*words, "--apply") == f"Nothing to {words[0]}.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["requeue"], "--all"),
        (["requeue", "x"], "'x'"),
        (["requeue", "1", "--all"], "--all"),
        (["requeue", "1-1", "--set", "data"], "FIELD=VALUE"),
        (["requeue", "1-1", "--set", "data=\udcff"], "UTF-8"),
        (["requeue", "--all", "--set", "data={}"], "--set changes events"),
        (["list", "--limit", "0"], "--limit"),
    ],
)
def test_dlq__refuses_in_one_line(platform, words, said):
    with pytest.raises(CommandError) as caught:
        dlq(*words)
    assert said in str(caught.value)


def test_dlq__redis_away_is_one_line_and_dead_letters_are_still_listed(platform, redis_elsewhere):
    redis_elsewhere("redis://127.0.0.1:1/0")
    with pytest.raises(CommandError, match="Redis is away"):
        dlq("list", "--events")
    assert document("list") == []
