"""The log of a running platform: every process in one file, every line says whose it is."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.acceptance.stack import ROOT
from tests.eventually import eventually


def lines(path):
    """Return the lines of a log; one that is no JSON object is a failure."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_step_lines__say_run_step_attempt_worker_and_request(stack, tmp_path):
    begun = stack.submit("lab.fragile", folder=str(tmp_path))
    stack.reaches(begun, "blocked")
    log = stack.var / "log" / "app.log"

    def of_run():
        return [one for one in lines(log) if one.get("run_id") == begun]

    # The last of them: somebody is told of the dead letter.
    eventually(lambda: any(one["event"] == "dead_letter" for one in of_run()), within=20)
    found = of_run()
    letter = next(one for one in found if one["event"] == "dead_letter")
    assert {"step", "step_id", "attempt", "worker", "correlation_id"} <= set(letter)
    of_step = [one for one in found if one["event"] in {"step_retried", "step_dead"}]
    assert {one["event"] for one in of_step} == {"step_retried", "step_dead"}
    asked = stack.call("GET", f"/runs/{begun}").json()["correlation_id"]
    assert asked
    told = stack.rows(
        "SELECT DISTINCT e.attempt, e.actor, s.id, s.key FROM engine_runevent e"
        " JOIN engine_steprun s ON s.id = e.step_run_id"
        " WHERE e.run_id = %s AND e.kind IN ('step.retried', 'step.dead')",
        begun,
    )
    said = {(one["attempt"], one["worker"], one["step_id"], one["step"]) for one in of_step}
    assert said == set(told)
    assert {one["correlation_id"] for one in of_step} == {asked}
    # The same lines, by the command.
    shown = stack.manage("logs", "--run", begun, "--level", "WARNING", "--json").splitlines()
    assert [json.loads(one) for one in shown] == [
        one for one in found if one["level"] in {"WARNING", "ERROR", "CRITICAL"}
    ]


def test_unexpected_error__is_found_by_its_run_and_quotes_nothing(stack):
    begun = stack.submit("lab.secret")
    stack.reaches(begun, "blocked")
    failed = [
        one
        for one in lines(stack.var / "log" / "app.log")
        if one.get("run_id") == begun and one["event"] == "step_failed"
    ]
    assert failed
    for one in failed:
        assert "tests/catalog/lab.py" in one["exception"]
        assert "ValueError" in one["exception"]
        assert "hunter2" not in one["exception"]
    for path in (stack.var / "log").iterdir():
        assert "hunter2" not in path.read_text(errors="replace"), path


def test_files__of_every_process_lie_side_by_side(stack):
    folder = stack.var / "log"
    everything = lines(folder / "app.log")
    assert {"web", "manager", "worker1", "orchestrator"} <= {one["process"] for one in everything}
    assert {"uvicorn.error"} <= {one["logger"] for one in everything if one["process"] == "web"}
    of_manager = lines(folder / "manager.log")
    assert of_manager
    assert {one["process"] for one in of_manager} == {"manager"}
    assert "Ready to accept connections" in (folder / "redis.log").read_text()
    assert "Ready to accept" in stack.manage("logs", "--file", "redis")


def test_guide__its_command_finds_errors_in_the_log(stack, tmp_path):
    begun = stack.submit("lab.fragile", folder=str(tmp_path))
    stack.reaches(begun, "blocked")
    found = subprocess.run(
        ["sh", "-c", f'tail -n +1 "{stack.var}/log/app.log" | grep -E "(ERROR|WARN|CRITICAL)"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert begun in found
    assert '"level": "INFO"' not in found


def test_redis_log__is_rotated_while_redis_runs(stack):
    log = stack.var / "log" / "redis.log"
    before = log.stat().st_ino
    with log.open("ab") as file:
        file.truncate(21 * 1024 * 1024)  # sparse: no byte is written
    aside = log.with_name("redis.log.1")
    eventually(lambda: aside.exists() and aside.stat().st_ino == before, within=30)
    # Redis opens its log by name for every line; the next one is in a file of its own.
    stack.redis().bgrewriteaof()
    eventually(lambda: log.exists() and "append only file" in log.read_text(), within=30)
    aside.unlink()


def test_production__is_json_where_no_terminal_is():
    script = (
        "import django; django.setup(); import structlog;"
        " structlog.get_logger('x').warning('hello')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
            "VAR_DIR": "/proc/none",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "hello"
