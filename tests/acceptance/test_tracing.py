"""One trace from the caller's request to the last event, by a real receiver of OTLP over HTTP."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from tests.acceptance.stack import TLS, Stack
from tests.collector import Collector
from tests.eventually import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
WEB, MANAGER, WORKER = (f"ai-business-engine-{role}" for role in ("web", "manager", "worker"))


def traced_stack(folder: Path, url: str, **environment: str) -> Stack:
    return Stack(folder, OTEL_EXPORTER_OTLP_ENDPOINT=url, **environment)


@pytest.fixture(scope="module")
def collector():
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def stack(collector):
    """The platform with tracing on: nothing but the endpoint says so."""
    with tempfile.TemporaryDirectory(prefix="abe-trace-") as folder:
        found = traced_stack(Path(folder), collector.url)
        try:
            found.start()
            yield found
        finally:
            if found.process is not None and found.process.poll() is None:
                found.stop(signal.SIGTERM)


def named(found, name: str):
    return [span for span in found if span.name == name]


def one(found, name: str):
    (span,) = named(found, name)
    return span


def told(collector, trace_id: str, *names: str):
    """Return the spans of a trace once all of these names are among them."""

    def complete():
        found = collector.of(trace_id)
        return found if set(names) <= {span.name for span in found} else None

    return eventually(complete, within=30, what=f"{names} in {trace_id}")


def test_trace__leads_from_the_request_through_retries_and_a_requeue_to_the_end(
    stack, collector, tmp_path
):
    begun = httpx.post(
        f"{stack.url}/runs",
        headers={
            "Authorization": f"Bearer {stack.token}",
            "traceparent": f"00-{TRACE}-{CALLER}-01",
            "X-Request-ID": "order-7",
        },
        json={"automation": "lab.fragile", "input": {"folder": str(tmp_path)}},
        timeout=30,
        verify=TLS,
    )
    assert begun.status_code == 201, begun.text
    run_id = begun.json()["id"]
    stack.reaches(run_id, "blocked")
    (tmp_path / "mended").touch()
    letter = stack.rows("SELECT id FROM engine_deadletter WHERE run_id = %s", run_id)[0][0]
    assert stack.call("POST", f"/dead-letters/{letter}/requeue").status_code == 200
    stack.reaches(run_id, "succeeded")

    found = told(collector, TRACE, "publish run.completed", "step last", "requeue fragile")
    request = one(found, "POST /runs")
    assert (request.parent, request.kind, request.service) == (CALLER, "server", WEB)
    assert request.words["http.response.status_code"] == 201
    assert request.words["http.route"] == "/runs"

    submission = one(found, "submit lab.fragile")
    assert (submission.parent, submission.service) == (request.id, WEB)
    assert submission.words["run.id"] == run_id
    assert submission.words["run.department"] == "lab"
    assert begun.json()["traceparent"] == f"00-{TRACE}-{submission.id}-01"
    assert one(found, "plan lab.fragile").parent == submission.id

    messages = {span.id: span for span in named(found, "receive lab")}
    assert {(span.parent, span.kind, span.service) for span in messages.values()} == {
        (submission.id, "consumer", WORKER)
    }
    attempts = named(found, "step fragile")
    assert [
        (span.words["step.attempt"], span.words["step.outcome"], span.words.get("error.type"))
        for span in attempts
    ] == [
        (1, "retried", "broken"),
        (2, "retried", "broken"),
        (3, "dead", "broken"),
        (4, "succeeded", None),
    ]
    for span in [*attempts, one(found, "step first"), one(found, "step last")]:
        assert span.parent in messages, span
        assert span.service == WORKER
        assert span.words["run.id"] == run_id
        assert span.words["run.automation"] == "lab.fragile"
        assert span.words["run.correlation_id"] == "order-7"
    # Each retry came by a message of its own, which the manager sent.
    assert len({span.parent for span in attempts[1:]}) == 3
    sent = named(found, "dispatch lab")
    assert len(sent) >= 3
    assert {(span.parent, span.kind, span.service) for span in sent} == {
        (submission.id, "producer", MANAGER)
    }

    requeue = one(found, "requeue fragile")
    assert (requeue.parent, requeue.service) == (submission.id, WEB)
    asked = eventually(
        lambda: [
            span
            for span in collector.spans
            if span.name.endswith("/requeue") and span.kind == "server"
        ],
        within=10,
    )[0]
    assert requeue.links == [(asked.trace_id, asked.id)]
    assert asked.trace_id != TRACE
    assert attempts[2].ended <= requeue.begun <= attempts[3].begun

    events = [span for span in found if span.name.startswith("publish run.")]
    assert {"publish run.started", "publish run.status.updated", "publish run.completed"} <= {
        span.name for span in events
    }
    assert {(span.parent, span.service) for span in events} == {(submission.id, MANAGER)}
    entries = [
        fields
        for _, fields in stack.redis().xrange("automation.events")
        if fields.get("run_id") == run_id
    ]
    assert {entry["traceparent"] for entry in entries} == {
        f"00-{TRACE}-{span.id}-01" for span in events
    }
    # Nothing hangs below a span that nobody was told of.
    ids = {span.id for span in found} | {CALLER}
    assert [span.name for span in found if span.parent not in ids] == []


def test_trace__goes_on_from_an_entry_of_the_stream(stack, collector):
    trace_id = "a" * 31 + "1"
    stack.redis().xadd(
        "automation.events",
        {
            "event_type": "automation.run.requested",
            "automation": "lab.squares",
            "data": json.dumps({"count": 2}),
            "traceparent": f"00-{trace_id}-{CALLER}-01",
        },
    )
    found = told(collector, trace_id, "publish run.completed", "step total", "plan square")
    entry = one(found, "process automation.events")
    assert (entry.parent, entry.kind, entry.service) == (CALLER, "consumer", MANAGER)
    submission = one(found, "submit lab.squares")
    assert (submission.parent, submission.service) == (entry.id, MANAGER)
    planned = one(found, "plan square")
    assert (planned.service, planned.words["step.items"]) == (WORKER, 2)
    assert {span.words["step.map_index"] for span in named(found, "step square")} == {0, 1}
    ids = {span.id for span in found} | {CALLER}
    assert [span.name for span in found if span.parent not in ids] == []


def test_trace__of_a_killed_worker_tells_of_the_attempt_it_took_along(stack, collector, tmp_path):
    run_id = stack.submit("lab.poison", folder=str(tmp_path))
    trace_id = eventually(
        lambda: stack.rows("SELECT traceparent FROM engine_run WHERE id = %s", run_id), within=5
    )[0][0].split("-")[1]
    eventually((tmp_path / "kill_worker.log").exists, within=30)
    (tmp_path / "mended").touch()
    stack.reaches(run_id, "succeeded")
    found = told(collector, trace_id, "publish run.completed", "step last")
    attempts = named(found, "step kill_worker")
    assert (attempts[0].service, attempts[0].words["error.type"]) == (MANAGER, "worker_lost")
    assert (attempts[-1].service, attempts[-1].words["step.outcome"]) == (WORKER, "succeeded")
    assert attempts[0].parent == one(found, "submit lab.poison").id


def test_spans__hold_no_payload_no_secret_and_no_health_checks(stack, collector, tmp_path):
    run_id = stack.submit("lab.secret", count=31337)
    stack.reaches(run_id, "blocked")
    trace_id = stack.rows("SELECT traceparent FROM engine_run WHERE id = %s", run_id)[0][0][3:35]
    told(collector, trace_id, "publish run.status.updated")
    sent = b"".join(collector.bodies)
    for secret in (b"hunter2", b"31337", stack.token.encode(), str(tmp_path).encode()):
        assert secret not in sent
    assert not [
        span.name for span in collector.spans if "health" in span.name or "livez" in span.name
    ]


def test_drain__sends_the_last_spans_of_every_process(collector):
    """A span would wait for ten minutes here; what there is goes out with its process."""
    with tempfile.TemporaryDirectory(prefix="abe-trace-") as folder:
        found = traced_stack(Path(folder), collector.url, OTEL_BSP_SCHEDULE_DELAY="600000")
        try:
            found.start()
            run_id = found.submit("lab.squares", count=2)
            found.reaches(run_id, "succeeded")
            trace_id = found.rows("SELECT traceparent FROM engine_run")[0][0][3:35]
            eventually(lambda: not found.rows("SELECT 1 FROM engine_outboxevent"), within=10)
            assert collector.of(trace_id) == []
        finally:
            if found.process is not None and found.process.poll() is None:
                found.stop(signal.SIGTERM)
    spans = collector.of(trace_id)
    assert {span.service for span in spans} == {WEB, MANAGER, WORKER}
    assert {"POST /runs", "publish run.completed", "step total"} <= {span.name for span in spans}
    ids = {span.id for span in spans}
    assert [span.name for span in spans if span.parent and span.parent not in ids] == []


def test_receiver__that_hangs_slows_nothing_and_holds_up_no_end():
    """It takes connections and never says a word: work and the drain go on as without it."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as silent,
        tempfile.TemporaryDirectory(prefix="abe-trace-") as folder,
    ):
        found = traced_stack(
            Path(folder),
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
        try:
            found.start()
            run_ids = [found.submit("lab.squares", count=20) for _ in range(20)]
            for run_id in run_ids:
                found.reaches(run_id, "succeeded", within=30)
            # The drain of a stack with nothing to do takes about 3 s.
            began = time.monotonic()
            found.stop(signal.SIGTERM, within=30)
            print(f"drain beside a receiver that hangs: {time.monotonic() - began:.1f} s")
            assert time.monotonic() - began < 12
        finally:
            if found.process is not None and found.process.poll() is None:
                found.stop(signal.SIGKILL)
