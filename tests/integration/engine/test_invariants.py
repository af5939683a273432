"""check_invariants: silent on what is true, and naming each thing that is not."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from engine.invariants import surveys, verification
from engine.models import Run
from tests import seed
from tests.catalog.lab import _dsn

#: Steps of the large database; ask for more with SEED_STEPS=1000000.
STEPS = int(os.environ.get("SEED_STEPS", "100000"))
#: What a million steps may take on two cores, in seconds.
SECONDS_PER_MILLION = 60


def checked(*arguments):
    """Run the command; return its exit code and what it printed."""
    out = StringIO()
    try:
        call_command("check_invariants", *arguments, stdout=out)
    except SystemExit as exc:
        return exc.code, out.getvalue()
    return 0, out.getvalue()


@pytest.mark.timeout(1200)
@pytest.mark.django_db(transaction=True)
def test_large_database__is_judged_in_time():
    began = time.monotonic()
    seeded = seed.build(steps=STEPS)
    built = time.monotonic() - began
    report = verification.verify()
    print(
        f"\n{seeded.steps:,} steps built in {built:.1f} s, judged in {report.seconds:.1f} s"
        f" (a million: at most {SECONDS_PER_MILLION} s)"
    )
    assert report.violations == []
    assert (report.runs, report.steps) == (seeded.runs, seeded.steps)
    assert report.seconds < SECONDS_PER_MILLION * max(STEPS / 1_000_000, 0.2)


@pytest.mark.django_db(transaction=True)
def test_finished_runs__are_true():
    seeded = seed.finish(runs=1500)
    more = seed.finish(runs=500, first=1501)
    report = verification.verify()
    assert report.violations == []
    assert (report.runs, report.steps) == (seeded.runs + more.runs, seeded.steps + more.steps)
    states = set(Run.objects.values_list("state", flat=True))
    assert states == {"succeeded", "failed", "cancelled", "timed_out"}


#: Check -> statements that plant what it looks for, as far as the database's own constraints let
#: one. `one(…)` is a subquery for the first such row.
def one(table: str, condition: str, column: str = "id") -> str:
    return f"(SELECT {column} FROM engine_{table} WHERE {condition} ORDER BY 1 LIMIT 1)"


BLOCKED = one("run", "state = 'blocked'")
RUNNING = one("run", "state = 'running'")
DONE = one("run", "state = 'succeeded'")
DEAD = one("steprun", "state = 'dead'")
HELD = one("steprun", "state = 'running'")
RETRYING = one("steprun", "state = 'retry_wait'")
SENT = one("steprun", "state = 'queued'")
READY = one("steprun", "state = 'ready'")
CANCELLED = one("steprun", "state = 'cancelled'")
ITEM = one("steprun", "state = 'succeeded' AND map_index = 3")
JOIN = one("steprun", "state = 'waiting' AND key = 'join'")
PLANNER = one("steprun", "state = 'succeeded' AND kind = 'map'")
END_OF_DEAD_RUN = (
    f"UPDATE engine_run SET state = 'failed', finished_at = now() WHERE id = {BLOCKED}"
)
EVENT = (
    "INSERT INTO engine_runevent (run_id, step_run_id, kind, actor, data, at) SELECT run_id, id,"
)
LATER = f"{EVENT} 'step.started', '', '{{}}', now() + interval '1 minute'"
RUN_EVENT = "INSERT INTO engine_runevent (run_id, kind, actor, data, at) SELECT id,"
EFFECT = (
    "INSERT INTO engine_effect (run_id, step_run_id, name, key, state, idempotent, attempt,"
    " error_code, planned_at, resolved_by) SELECT s.run_id, s.id, {name}, {key}, 'confirmed',"
    " false, 1, '', now(), '' FROM engine_steprun s WHERE s.id IN ({where})"
)
SCHEDULED = (
    "UPDATE engine_run SET trigger = 'schedule', dedupe_key = {key}, automation = {name} WHERE"
)
PLANTED: dict[str, list[str]] = {
    "plan_is_whole": [f"DELETE FROM engine_steprun WHERE id = {JOIN}"],
    "run_pending_counts": [f"UPDATE engine_run SET pending = 2 WHERE id = {RUNNING}"],
    "succeeded_run_is_done": [
        f"UPDATE engine_run SET state = 'succeeded', finished_at = now() WHERE id = {RUNNING}"
    ],
    "open_run_goes_on": [
        f"UPDATE engine_run SET state = 'running', finished_at = NULL WHERE id = {DONE}"
    ],
    "dead_step_blocks_its_run": [f"UPDATE engine_run SET state = 'running' WHERE id = {BLOCKED}"],
    "blocked_run_has_a_letter": [
        f"UPDATE engine_deadletter SET state = 'requeued' WHERE run_id = {BLOCKED}"
    ],
    "ending_is_named": [f"UPDATE engine_run SET state = 'cancelling' WHERE id = {RUNNING}"],
    "map_is_whole": [f"DELETE FROM engine_steprun WHERE id = {ITEM}"],
    "items_follow_their_planner": [
        f"UPDATE engine_steprun SET state = 'queued', finished_at = NULL WHERE id = {PLANNER}"
    ],
    "step_has_its_run": [
        f"UPDATE engine_steprun SET run_id = gen_random_uuid() WHERE id = {READY}"
    ],
    "step_is_planned": [f"UPDATE engine_steprun SET key = 'strange' WHERE id = {JOIN}"],
    "item_has_its_input": [f"DELETE FROM engine_stepinput WHERE step_run_id = {ITEM}"],
    "step_pending_counts": [f"UPDATE engine_steprun SET pending = 2 WHERE id = {JOIN}"],
    "parents_come_first": [
        f"UPDATE engine_steprun SET state = 'ready', pending = 0 WHERE id = {JOIN}"
    ],
    "waiting_has_a_parent": [f"UPDATE engine_steprun SET state = 'waiting' WHERE id = {READY}"],
    "ended_run_has_ended_steps": [END_OF_DEAD_RUN],
    "holder_has_a_lease": ["DELETE FROM engine_lease"],
    "claim_has_a_holder": [
        f"UPDATE engine_steprun SET claim = gen_random_uuid() WHERE id = {READY}"
    ],
    "sleeper_has_a_moment": [f"UPDATE engine_steprun SET next_at = NULL WHERE id = {RETRYING}"],
    "sent_step_has_a_moment": [f"UPDATE engine_steprun SET dispatched_at = NULL WHERE id = {SENT}"],
    "lane_exists": ["DELETE FROM engine_lane"],
    "stopped_step_has_an_ending_run": [
        f"UPDATE engine_steprun SET cancel_requested = true WHERE id = {READY}"
    ],
    "awaiting_has_a_question": [
        f"UPDATE engine_steprun SET state = 'awaiting', claim = NULL WHERE id = {HELD}"
    ],
    "dead_step_has_a_letter": ["DELETE FROM engine_deadletter"],
    "letter_has_a_dead_step": [
        f"UPDATE engine_deadletter SET step_run_id = {READY} WHERE step_run_id = {DEAD}"
    ],
    "poison_is_dead": [f"UPDATE engine_steprun SET crashes = 3, attempt = 3 WHERE id = {RETRYING}"],
    "attempts_cover_failures": [f"UPDATE engine_steprun SET crashes = 2 WHERE id = {RETRYING}"],
    "output_is_of_a_success": [
        f"INSERT INTO engine_stepoutput (step_run_id, value) VALUES ({HELD}, '1')"
    ],
    "success_has_an_output": [f"DELETE FROM engine_stepoutput WHERE step_run_id = {ITEM}"],
    "lease_has_a_holder": [
        "INSERT INTO engine_lease (claim, worker, expires_at) VALUES (gen_random_uuid(), '', now())"
    ],
    "success_is_told_once": [
        f"{EVENT} 'step.succeeded', '', '{{}}', now() FROM engine_steprun WHERE id = {ITEM}"
    ],
    "attempts_are_told": [f"UPDATE engine_steprun SET attempt = 7 WHERE id = {RETRYING}"],
    "attempts_follow_failures": [
        f"{EVENT} 'step.started', '', '{{}}', now() FROM engine_steprun WHERE id = {HELD}"
    ],
    "failures_are_told": [
        f"UPDATE engine_steprun SET failures = 2, attempt = 2 WHERE id = {RETRYING}"
    ],
    "step_ends_once": [
        f"{EVENT} 'step.cancelled', '', '{{}}', now() FROM engine_steprun WHERE id = {CANCELLED}"
    ],
    "step_stays_as_it_ended": [
        f"{EVENT} 'step.released', '', '{{}}', now() FROM engine_steprun WHERE id = {ITEM}"
    ],
    "submission_is_told": ["DELETE FROM engine_runevent WHERE kind = 'run.submitted'"],
    "generations_are_told": [f"UPDATE engine_run SET generation = 2 WHERE id = {RUNNING}"],
    "run_ends_once": [
        f"{RUN_EVENT} 'run.failed', '', '{{}}', now() FROM engine_run WHERE id = {RUNNING}"
    ],
    "run_stays_as_it_ended": [
        f"UPDATE engine_run SET state = 'failed' WHERE id = {one('run', 'finished_at IS NOT NULL')}"
    ],
    "no_claim_after_cancel": [f"{LATER} FROM engine_steprun WHERE id = {CANCELLED}"],
    "effect_key_is_stable": [EFFECT.format(name="'mail'", key="'made:up'", where=ITEM)],
    "effect_key_is_single": [
        EFFECT.format(name="'mail'", key="'the:same'", where=f"{ITEM}, {READY}")
    ],
    "constraints_are_in_force": ["ALTER TABLE engine_steprun DROP CONSTRAINT steprun_once_per_run"],
    "schedule_fires_once": [
        SCHEDULED.format(key="'schedule:1:2026-11-24T08:00:00+00:00'", name="automation || id")
        + f" id IN ({RUNNING}, {DONE})"
    ],
    "fire_has_a_key": [SCHEDULED.format(key="NULL", name="automation") + f" id = {RUNNING}"],
    "schedule_moves_on": [
        """
        INSERT INTO departments_schedule (name, automation_id, input, cron, time_zone, catch_up,
            catch_up_limit, enabled, next_fire_at, last_fire_at, error)
        VALUES ('s', 'seeded.report', '{}', '* * * * *', 'UTC', 'latest', 1, true, now(), now(), '')
        """
    ],
}


def test_every_check__has_something_planted():
    assert set(PLANTED) == {check.name for check in surveys.checks()}


@pytest.fixture
def seeded(db):
    """A small true database, in a transaction that is rolled back."""
    seed.build(steps=200)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_check__finds_what_is_planted(seeded, name):
    assert verification.judge().clean
    with connection.cursor() as cursor:
        # Foreign keys are triggers: off, so that one row can be taken away alone.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in PLANTED[name]:
            cursor.execute(statement)
            assert cursor.rowcount != 0, statement
    report = verification.judge(limit=1)
    assert not report.clean
    found = [row for row in report.violations if row.check.name == name]
    assert len(found) == 1, report.violations
    assert found[0].what
    assert "{" not in found[0].what


@pytest.mark.django_db(transaction=True)
def test_command__is_clean_and_says_what_it_does_not_judge():
    seed.build(steps=200)
    code, shown = checked()
    assert code == 0
    assert "clean: " in shown
    assert "I6 is not judged" in shown
    assert "I12 is not judged" in shown


@pytest.mark.django_db(transaction=True)
def test_command__lists_at_most_so_many_and_counts_all():
    seed.build(steps=1000)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM engine_runevent WHERE kind = 'run.submitted'")
    code, shown = checked("--limit", "3")
    assert code == 1
    assert shown.count("submission_is_told") == 3
    assert "100 broken" in shown
    code, shown = checked("--limit", "2", "--json")
    assert code == 1
    document = json.loads(shown)
    assert document["clean"] is False
    assert [row["check"] for row in document["violations"]] == ["submission_is_told"] * 2
    assert {"name": "submission_is_told", "invariant": "I1", "broken": 100} in document["checks"]
    assert set(document["not_judged"]) == {"I6", "I12"}


@pytest.mark.django_db(transaction=True)
def test_command__says_when_the_time_was_not_enough():
    seed.build(steps=1000)
    with pytest.raises(CommandError, match="Not verified within"):
        call_command("check_invariants", "--timeout", "0.001")


@pytest.mark.django_db(transaction=True)
def test_snapshot__sees_one_moment_and_writes_nothing(monkeypatch):
    """A run that moves between two surveys raises no alarm, and a write is refused."""
    seed.build(steps=200)
    seen = []

    def move():
        with psycopg.connect(_dsn(), autocommit=True) as other:
            other.execute(PLANTED["holder_has_a_lease"][0])
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            seen.append(cursor.fetchone()[0])
        return {}

    monkeypatch.setitem(surveys.surveys, "runs", replace(surveys.surveys["runs"], parameters=move))
    assert verification.verify().clean
    assert seen == ["on"]
    assert not verification.verify().clean
