"""One trace from the request to every place where its run is told of."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.acceptance.stack import TLS
from tests.eventually import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def start(stack, folder, **headers):
    answer = httpx.post(
        f"{stack.url}/runs",
        headers={"Authorization": f"Bearer {stack.token}", **headers},
        json={"automation": "lab.fragile", "input": {"folder": str(folder)}},
        timeout=30,
        verify=TLS,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def entries(stack, run_id):
    """Return what `automation.events` has of a run."""
    found = [fields for _, fields in stack.redis().xrange("automation.events")]
    return [fields for fields in found if fields.get("run_id") == run_id]


def lines(stack, run_id):
    """Return what the log has of a run."""
    text = (stack.var / "log" / "app.log").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    return [line for line in found if line.get("run_id") == run_id]


def test_traceparent__is_carried_to_run_event_task_and_log(stack, tmp_path):
    begun = start(stack, tmp_path, traceparent=TRACEPARENT, **{"X-Request-ID": "order-7"})
    run_id = begun["id"]
    assert begun["traceparent"] == TRACEPARENT
    stack.reaches(run_id, "blocked")
    assert stack.call("GET", f"/runs/{run_id}").json()["traceparent"] == TRACEPARENT

    told = eventually(
        lambda: len(entries(stack, run_id)) >= 2 and entries(stack, run_id), within=20
    )
    assert {entry["event_type"] for entry in told} == {"run.started", "run.status.updated"}
    for entry in told:
        assert entry["traceparent"] == TRACEPARENT
        assert json.loads(entry["data"])["traceparent"] == TRACEPARENT
        assert entry["correlation_id"] == "order-7"

    retried = [line for line in lines(stack, run_id) if line["event"] == "step_retried"]
    assert retried
    for line in retried:
        assert (line["trace_id"], line["correlation_id"]) == (TRACE, "order-7")

    events = httpx.stream(
        "GET",
        f"{stack.url}/runs/{run_id}/stream",
        headers={"Authorization": f"Bearer {stack.token}", "Last-Event-ID": "0"},
        timeout=30,
        verify=TLS,
    )
    with events as answer:
        data = (line for line in answer.iter_lines() if line.startswith("data:"))
        assert json.loads(next(data).partition(":")[2])["traceparent"] == TRACEPARENT

    (tmp_path / "mended").touch()
    letter = stack.rows("SELECT id FROM engine_deadletter WHERE run_id = %s", run_id)[0][0]
    assert stack.call("POST", f"/dead-letters/{letter}/requeue").status_code == 200
    stack.reaches(run_id, "succeeded")
    last = eventually(
        lambda: [e for e in entries(stack, run_id) if e["event_type"] == "run.completed"], within=20
    )
    assert last[0]["traceparent"] == TRACEPARENT


@pytest.mark.parametrize("said", ["rubbish", f"00-{'0' * 32}-00f067aa0ba902b7-01"])
def test_traceparent__that_is_none_is_ignored(stack, tmp_path, said):
    begun = start(stack, tmp_path, traceparent=said)
    assert begun["traceparent"] == ""
    stack.reaches(begun["id"], "blocked")
    told = eventually(lambda: entries(stack, begun["id"]), within=20)
    assert all("traceparent" not in entry for entry in told)
    assert all("trace_id" not in line for line in lines(stack, begun["id"]))
