"""The operations guide's own commands on the two streams, typed into a shell as it says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.acceptance.stack import ROOT
from tests.eventually import eventually

REQUESTED = 'event_type "automation.run.requested" automation lab.squares'


def shell(stack, script: str) -> str:
    """Run a script as a person would who has typed `eval "$(python manage.py env)"`."""
    done = subprocess.run(
        ["sh", "-ec", f'eval "$({sys.executable} manage.py env)"\n{script}'],
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # redis-cli tells an error on stdout, with exit code 0.
    assert "ERR" not in done.stdout, done.stdout
    assert "NOGROUP" not in done.stdout, done.stdout
    return done.stdout


def started(stack, correlation: str) -> list[tuple]:
    return stack.rows("SELECT id, state FROM engine_run WHERE correlation_id = %s", correlation)


def held_by_a_dead_consumer(stack, correlation: str) -> str:
    """Let a consumer that is gone hold a request: it took it in the breath in which it came."""
    request = {
        "event_type": "automation.run.requested",
        "automation": "lab.squares",
        "correlation_id": correlation,
    }
    with stack.redis().pipeline(transaction=True) as pipe:
        pipe.xadd("automation.events", request)
        pipe.xreadgroup("manager", "consumer1", {"automation.events": ">"}, count=100)
        return pipe.execute()[0]


def test_guide__lag_and_consumers_are_to_be_seen(stack):
    said = shell(
        stack,
        "redis-cli PING\n"
        "redis-cli XINFO STREAM automation.events\n"
        "redis-cli XINFO GROUPS automation.events\n"
        "redis-cli XINFO CONSUMERS automation.events manager\n"
        "redis-cli XPENDING automation.events manager\n"
        "redis-cli INFO memory\n",
    )
    assert said.startswith("PONG")
    for word in ("last-generated-id", "last-delivered-id", "idle", "maxmemory_policy:noeviction"):
        assert word in said


def test_guide__an_added_event_becomes_a_run(stack):
    shell(stack, f"redis-cli XADD automation.events '*' {REQUESTED} correlation_id by-hand")
    ((run_id, _state),) = eventually(lambda: started(stack, "by-hand"), within=20)
    stack.reaches(run_id, "succeeded")


def test_guide__dead_letters_are_read_and_moved_back(stack):
    """Also before anything was refused: an empty stream answers, a missing one is an error."""
    shell(stack, "redis-cli XINFO STREAM automation.dlq")
    bad = f"{REQUESTED} correlation_id moved-back data '{{no'"
    shell(stack, f"redis-cli XADD automation.events '*' {bad}")

    def refused():
        said = shell(stack, "redis-cli XRANGE automation.dlq - + COUNT 1000")
        return "moved-back" in said and said

    said = eventually(refused, within=20)
    assert "data_not_json" in said
    assert shell(stack, "redis-cli XREAD COUNT 1 STREAMS automation.dlq 0")
    good = f"{REQUESTED} correlation_id moved-back data '{{\"count\": 2}}'"
    shell(stack, f"redis-cli XADD automation.events '*' {good}")
    ((run_id, _state),) = eventually(lambda: started(stack, "moved-back"), within=20)
    stack.reaches(run_id, "succeeded")


@pytest.mark.timeout(200)
def test_guide__a_stuck_entry_is_claimed_by_hand_and_lost_to_nobody(stack):
    entry = held_by_a_dead_consumer(stack, "stuck-raw")
    said = shell(stack, "redis-cli XPENDING automation.events manager - + 10 consumer1")
    assert entry in said
    shell(stack, f"redis-cli XCLAIM automation.events manager consumer2 0 {entry}")
    assert "consumer2" in shell(stack, "redis-cli XPENDING automation.events manager")
    # consumer2 is nobody either: the manager takes it over by itself, after a minute.
    ((run_id, _state),) = eventually(lambda: started(stack, "stuck-raw"), within=100)
    stack.reaches(run_id, "succeeded")


def test_streams_claim__brings_a_stuck_entry_to_the_manager_within_seconds(stack):
    entry = held_by_a_dead_consumer(stack, "stuck-claimed")
    pending = json.loads(stack.manage("streams", "pending", "--idle", "0", "--json"))
    assert entry in [one["id"] for one in pending]
    stack.manage("streams", "claim", "operator", entry, "--idle", "0", "--apply")
    ((run_id, _state),) = eventually(lambda: started(stack, "stuck-claimed"), within=20)
    stack.reaches(run_id, "succeeded")


def test_guide__a_reset_group_reads_all_again_and_doubles_nothing(stack):
    before = stack.rows("SELECT count(*) FROM engine_run")[0][0]
    shell(stack, f"redis-cli XADD automation.events '*' {REQUESTED} correlation_id reset-before")
    eventually(lambda: started(stack, "reset-before"), within=20)
    shell(
        stack,
        "redis-cli XGROUP DELCONSUMER automation.events manager consumer1\n"
        "redis-cli XGROUP SETID automation.events manager 0\n",
    )
    shell(stack, f"redis-cli XADD automation.events '*' {REQUESTED} correlation_id reset-after")
    eventually(lambda: started(stack, "reset-after"), within=30)

    def read():
        return json.loads(stack.manage("streams", "info", "--json"))[0]["undelivered"] == 0

    eventually(read, within=30)
    assert stack.rows("SELECT count(*) FROM engine_run")[0][0] == before + 2
    assert len(started(stack, "reset-before")) == 1
