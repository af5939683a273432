"""What operators and producers do, against the running platform: events, dead letters, cancel."""

from __future__ import annotations

import json
import time

import pytest

from tests.acceptance.stack import LEASE_SECONDS
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)


def executions(folder, word: str) -> int:
    path = folder / f"{word}.log"
    return len(path.read_text().splitlines()) if path.exists() else 0


def started_by(stack, entry: str) -> str:
    key = f"stream:{entry}"
    statement = "SELECT id FROM engine_run WHERE dedupe_key = %s"
    return str(eventually(lambda: stack.rows(statement, key), within=10)[0][0])


def request(stack, automation: str, data: str) -> str:
    return stack.redis().xadd(
        "automation.events",
        {"event_type": "automation.run.requested", "automation": automation, "data": data},
    )


def test_event__starts_a_run_and_a_malformed_one_does_not_stop_the_next(stack):
    good = request(stack, "lab.squares", json.dumps({"count": 3}))
    stack.reaches(started_by(stack, good), "succeeded")

    broken = request(stack, "lab.squares", "{not json")
    unknown = request(stack, "lab.nothing", "{}")
    invalid = request(stack, "lab.squares", json.dumps({"count": "many"}))
    after = request(stack, "lab.squares", json.dumps({"count": 4}))
    stack.reaches(started_by(stack, after), "succeeded")

    letters = {json.dumps(fields) for _, fields in stack.redis().xrange("automation.dlq")}
    for entry, word in ((broken, "JSON"), (unknown, "lab.nothing"), (invalid, "count")):
        (letter,) = [text for text in letters if entry in text]
        assert word in letter


def test_events__tell_the_life_of_a_run(stack):
    run_id = stack.submit("lab.squares", count=2)
    stack.reaches(run_id, "succeeded")

    def told() -> list[str]:
        entries = stack.redis().xrange("automation.events")
        return [f["event_type"] for _, f in entries if f.get("run_id") == run_id]

    eventually(lambda: told() == ["run.started", "run.completed"], within=10, what="both events")


def test_failure__retries_dead_letters_is_mended_requeued_and_succeeds(stack, tmp_path):
    run_id = stack.submit("lab.fragile", folder=str(tmp_path))
    stack.reaches(run_id, "blocked")
    assert (executions(tmp_path, "first"), executions(tmp_path, "fragile")) == (1, 3)

    letters = json.loads(stack.manage("dlq", "list", "--json"))
    (letter,) = [row for row in _rows(letters) if row["run_id"] == run_id]
    entries = stack.redis().xrange("automation.dlq")
    eventually(
        lambda: any(run_id in json.dumps(f) for _, f in stack.redis().xrange("automation.dlq")),
        within=10,
        what=f"mirrored in automation.dlq ({len(entries)} entries)",
    )
    statement = "SELECT notified_at FROM engine_deadletter WHERE id = %s"
    eventually(lambda: stack.rows(statement, letter["id"])[0][0], within=10, what="notified")

    (tmp_path / "mended").touch()
    stack.manage("dlq", "requeue", str(letter["id"]), "--apply")
    stack.reaches(run_id, "succeeded")
    assert (executions(tmp_path, "first"), executions(tmp_path, "fragile")) == (1, 4)


def _rows(document):
    return document if isinstance(document, list) else document["results"]


def test_poison__three_lost_workers_make_a_dead_letter_and_others_go_on(stack, tmp_path):
    run_id = stack.submit("lab.poison", folder=str(tmp_path))
    began = time.monotonic()
    stack.reaches(run_id, "blocked", within=60)
    print(f"\npoison: dead after {time.monotonic() - began:.1f} s")
    assert executions(tmp_path, "kill_worker") == 3
    statement = "SELECT error_code, crashes FROM engine_deadletter WHERE run_id = %s"
    assert stack.rows(statement, run_id) == [("worker_lost", 3)]
    other = stack.submit("lab.squares", count=3)
    stack.reaches(other, "succeeded")


def test_timeout__ends_the_attempt_and_the_process(stack, tmp_path):
    run_id = stack.submit("lab.too_slow", folder=str(tmp_path))
    stack.reaches(run_id, "blocked", within=30)
    assert executions(tmp_path, "too_slow") == 2
    statement = "SELECT error_code, attempts FROM engine_deadletter WHERE run_id = %s"
    assert stack.rows(statement, run_id) == [("timeout", 2)]


def test_cancel__a_step_with_checkpoints_stops_within_seconds(stack, tmp_path):
    run_id = stack.submit("lab.patient", folder=str(tmp_path), seconds=60)
    eventually(lambda: executions(tmp_path, "patient"), within=10)
    began = time.monotonic()
    assert stack.call("POST", f"/runs/{run_id}/cancel").status_code in {200, 202}
    stack.reaches(run_id, "cancelled", within=10)
    print(f"\ncooperative cancel: {time.monotonic() - began:.1f} s")
    assert executions(tmp_path, "last") == 0


def test_cancel__a_step_that_never_looks_is_ended_after_its_grace(stack, tmp_path):
    run_id = stack.submit("lab.stubborn", folder=str(tmp_path), seconds=60)
    eventually(lambda: executions(tmp_path, "stubborn"), within=10)
    began = time.monotonic()
    stack.call("POST", f"/runs/{run_id}/cancel")
    stack.reaches(run_id, "cancelled", within=15)
    print(f"\nhard cancel with a grace of 1 s: {time.monotonic() - began:.1f} s")
    assert executions(tmp_path, "stubborn_finished") == 0
    other = stack.submit("lab.squares", count=3)
    stack.reaches(other, "succeeded")


def test_long_step__outlives_its_lease_by_its_heartbeat(stack, tmp_path):
    run_id = stack.submit("lab.patient", folder=str(tmp_path), seconds=3 * LEASE_SECONDS)
    stack.reaches(run_id, "succeeded", within=40)
    statement = "SELECT attempt, crashes FROM engine_steprun WHERE run_id = %s AND key = 'patient'"
    assert stack.rows(statement, run_id) == [(1, 0)]
    assert executions(tmp_path, "patient") == 1


def test_pause__of_a_run_and_of_a_department(stack, tmp_path):
    run_id = stack.submit("lab.booking", count=60, seconds=0.05)
    eventually(lambda: stack.count(run_id, "succeeded", "book") >= 2, within=20)
    assert stack.call("POST", f"/runs/{run_id}/pause").status_code in {200, 202}
    # What a worker holds of a chunk is `queued` under its claim, and goes on to its end.
    held = (
        "SELECT count(*) FROM engine_steprun WHERE run_id = %s AND claim IS NOT NULL"
        " AND state IN ('queued', 'running')"
    )
    eventually(lambda: stack.rows(held, run_id) == [(0,)], within=5)
    before = stack.count(run_id, "succeeded", "book")
    other = stack.submit("lab.squares", count=3)
    stack.reaches(other, "succeeded")
    assert stack.count(run_id, "succeeded", "book") == before
    assert stack.call("POST", f"/runs/{run_id}/resume").status_code in {200, 202}
    stack.reaches(run_id, "succeeded")
    assert stack.ledger(run_id) == 60

    stack.manage("departments", "pause", "lab")
    held = stack.submit("lab.squares", count=3)
    (reason,) = {w["reason_code"] for w in _why(stack, held) if w["state"] == "ready"}
    assert reason == "department_paused"
    assert stack.state(held) == "pending"
    stack.manage("departments", "resume", "lab")
    stack.reaches(held, "succeeded")


def _why(stack, run_id: str):
    return _rows(stack.call("GET", f"/runs/{run_id}/why").json())


def test_two_managers__share_the_work_and_one_takes_over(stack):
    import subprocess  # noqa: PLC0415 - only this test starts a process by itself
    import sys  # noqa: PLC0415

    from tests.acceptance.stack import ROOT  # noqa: PLC0415

    port = str(8080 + stack.shift + 7)
    second = subprocess.Popen(
        [sys.executable, "manage.py", "manager", "--port", port, "--instance", "7"],
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        entries = [request(stack, "lab.squares", json.dumps({"count": 2})) for _ in range(30)]
        stack.kill("manager")
        for entry in entries:
            stack.reaches(started_by(stack, entry), "succeeded")
        keys = [f"stream:{entry}" for entry in entries]
        statement = "SELECT count(*) FROM engine_run WHERE dedupe_key = ANY(%s)"
        assert stack.rows(statement, keys) == [(30,)]
    finally:
        second.terminate()
        second.wait(timeout=15)
