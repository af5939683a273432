"""`manage.py doctor` on a running platform: what is well, what is over, and what hangs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.acceptance.stack import ROOT

#: The routine waits 8 s at most; the rest is a busy machine.
BOUND_SECONDS = 15
#: What starting the process may take on such a machine.
START_SECONDS = 180


def doctor(stack, *words):
    """Run the routine; return the exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", *words],
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def checks(stack, *words):
    """Return the checks by name, and the exit code."""
    code, said = doctor(stack, "--json", *words)
    document = json.loads(said)
    assert document["seconds"] < BOUND_SECONDS
    found = {one["name"]: one for one in document["checks"]}
    bad = [one["name"] for one in found.values() if not one["ok"]]
    assert code == (1 if bad else 0), bad
    assert document["status"] == ("over" if bad else "ok")
    return found


def test_doctor__of_a_platform_that_is_well(stack):
    stack.manage("dlq", "discard", "--all", "--apply")
    stack.reaches(stack.submit("lab.squares", count=2), "succeeded")
    found = checks(stack)
    # What the tests before this one did to the API is theirs.
    well = set(found) - {"api_errors", "api_latency"}
    assert {name for name in well if not found[name]["ok"]} == set(), found
    assert {"web", "manager", "queue_depth", "stream_lag", "redis_eviction", "backup"} <= set(found)
    for one in found.values():
        assert one["value"]
        assert one["runbook"].startswith("deploy/RUNBOOK.md")


def test_doctor__names_value_limit_and_place_in_the_runbook(stack, tmp_path):
    stack.reaches(stack.submit("lab.fragile", folder=str(tmp_path)), "blocked")
    code, said = doctor(stack)
    assert code == 1
    (line,) = [one for one in said.splitlines() if "Dead letters" in one]
    assert line.startswith("✗ Dead letters, new in 24 h")
    assert line.endswith("deploy/RUNBOOK.md#deadlettersgrowing")
    (healthy,) = [one for one in said.splitlines() if "Redis eviction" in one]
    assert healthy.split() == [
        *("✓", "Redis", "eviction", "noeviction", "noeviction"),
        "deploy/RUNBOOK.md#redisevictionpolicy",
    ]
    assert "over the limit" in said.splitlines()[-1]
    stack.manage("dlq", "discard", "--all", "--apply")


@pytest.mark.parametrize(
    ("server", "silent", "well"),
    [
        ("redis", {"redis", "redis_memory", "stream_lag"}, {"database", "runs_stuck"}),
        ("postgres", {"database", "migrations", "runs_stuck", "manager"}, {"redis", "stream_lag"}),
    ],
)
def test_doctor__ends_in_time_whatever_hangs(stack, server, silent, well):
    hung = stack.find(server)
    hung.suspend()
    try:
        found = checks(stack)
    finally:
        hung.resume()
    assert {name for name in silent if found[name]["ok"]} == set()
    assert {name for name in well if not found[name]["ok"]} == set()
    assert all(found[name]["note"] for name in silent)


def test_doctor__without_web_still_looks_at_the_rest(stack):
    found = checks(stack, "--url", "http://127.0.0.1:9")
    for name in ("web", "api_latency", "api_errors"):
        assert "nothing answers at http://127.0.0.1:9" in found[name]["note"]
        assert not found[name]["ok"]
    assert found["database"]["ok"]


def test_doctor__refuses_an_address_that_is_none(stack):
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--url", "file:///etc/passwd"],
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    assert done.returncode == 1
    assert "--url must begin with http" in done.stderr


def test_doctor__starts_no_server(tmp_path, stack):
    """Where nothing runs, that is the answer; the routine must not mend what it looks at."""
    environment = stack.environment | {"VAR_DIR": str(tmp_path / "var")}
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    assert done.returncode == 1, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    assert not found["database"]["ok"]
    assert not found["redis"]["ok"]
    assert not (tmp_path / "var" / "postgres").exists()
