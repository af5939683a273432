"""Off by default and for nothing; switched on by the environment alone; never in the way."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
import timeit
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from config import tracing as switch
from config.otlp import posting
from config.otlp.tracer import Tracer
from engine import execution, runs, spans, tracing
from engine.publishing import ReadyStep
from tests.eventually import eventually
from tests.held import finished

ROOT = Path(__file__).resolve().parents[3]
EVERYTHING = """
import config.asgi, config.celery, json, sys
from orchestration import tasks
from orchestration.management.commands import manager
from engine import tracing
# redis-py looks for OpenTelemetry's metrics by itself, wherever it is installed.
ours = ("config.otlp", "opentelemetry.sdk.trace", "opentelemetry.exporter", "google.protobuf")
loaded = [name for name in sys.modules if name.startswith(ours)]
print(json.dumps({"on": tracing.is_on(), "loaded": loaded}))
"""
WITHOUT_THE_EXTRA = "import sys; sys.modules['opentelemetry'] = None\n"
FORKING = """
import os, sys, threading
from config.otlp.tracer import Tracer
from engine import tracing
tracing.register(Tracer(endpoint=sys.argv[1], headers=""))
tracing.play("worker")
for _ in range(2):
    child = os.fork()
    if child == 0:
        tracing.begin("in a child").end({})
        tracing.flush(5)
        os._exit(0)
    os.waitpid(child, 0)
assert threading.active_count() == 1, threading.enumerate()
tracing.begin("in the parent").end({})
"""
#: What a step costs in all is about a millisecond; the figure is printed beside its bound.
MOST_NANOSECONDS_A_STEP = 5_000
#: No span, whatever it is of.
STEP = SimpleNamespace(traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def started(before: str = "", **environment: str) -> dict[str, object]:
    """Return what a process that loads web, worker and manager has of tracing."""
    done = python(before + EVERYTHING, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- off ----------------------------------------------------------------------------------------
def test_off__imports_nothing():
    assert started() == {"on": False, "loaded": []}


def test_off__needs_no_extra():
    assert started(WITHOUT_THE_EXTRA) == {"on": False, "loaded": []}


def test_on__by_the_endpoint_alone():
    found = started(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert found["on"] is True
    assert {"config.otlp", "opentelemetry.sdk.trace"} <= set(found["loaded"])


def test_off__makes_no_span():
    assert not tracing.is_on()
    made = [
        tracing.begin("anything"),
        spans.submission(automation="a.b", department="a", run_id="r", parent=STEP.traceparent),
        spans.planning(tracing.NOTHING, automation="a.b"),
        spans.sending([ReadyStep(1, "lab")], parent=STEP.traceparent),
        spans.attempt(STEP, spans.NO_PARENTS),
        spans.effect("call", parent=STEP.traceparent),
    ]
    assert all(span is tracing.NOTHING for span in made)
    assert spans.received([STEP], queue="lab", task_id="t", took_seconds=0) is spans.NO_PARENTS


def test_off__costs_a_step_next_to_nothing():
    """All that a step passes on its way: message, attempt, result."""
    result = finished(STEP)

    def step() -> None:
        parents = spans.received([STEP], queue="lab", task_id="t", took_seconds=0.0)
        spans.attempt(STEP, parents)
        spans.written(result, stands=True, ago_seconds=0.0)

    turns = 20_000
    turned = timeit.repeat(step, timer=time.thread_time, number=turns, repeat=5)
    nanoseconds = min(turned) / turns * 1e9
    print(f"tracing that is off: {nanoseconds:.0f} ns a step (bound {MOST_NANOSECONDS_A_STEP})")
    assert nanoseconds < MOST_NANOSECONDS_A_STEP


def test_statements__are_the_same_with_tracing_and_without(
    line, tracer, monkeypatch, quiet_afterwards
):
    """Submission and execution ask the database nothing for their spans."""
    seen: list[str] = []
    original = psycopg.Cursor.execute

    def counted(cursor, query, *values, **options):
        seen.append(query)
        return original(cursor, query, *values, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", counted)
    counts = []
    # First without being counted: what a process reads once, it has read.
    for each in (None, None, tracer):
        tracing.register(each)
        seen.clear()
        runs.submit(automation="lab.squares", input={"count": 3}, trigger="api")
        for _ in range(10):
            if line.messages:
                ids = [message.id for message in line.messages]
                line.messages.clear()
                execution.execute(step_run_ids=ids, worker="w/1")
        counts.append(len(seen))
    assert counts[1] == counts[2] > 5


# --- what the environment may say -----------------------------------------------------------------
@pytest.fixture
def environment(monkeypatch):
    """Set variables; tracing is what it was when the test is over."""

    def given(values: dict[str, str]) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    yield given
    tracing.register(None)


HERE = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE}, f"{HERE}/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": f"{HERE}/base/"}, f"{HERE}/base/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{HERE}/there"}, f"{HERE}/there"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_SDK_DISABLED": "True"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ""),
    ],
)
def test_endpoint__is_what_the_standard_makes_of_the_variables(environment, values, url):
    environment(values)
    assert switch.endpoint() == url
    switch.register()
    assert tracing.is_on() == bool(url)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT must be an address like http://127.0.0.1:4318",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://:99999/?key=s3cr3t"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be an address like http://127.0.0.1:4318",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not 'grpc': send to the receiver's",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER must be otlp or none, not 'zipkin'",
        ),
    ],
)
def test_environment__that_cannot_be_followed_is_refused_by_name(environment, values, said):
    environment(values)
    with pytest.raises(ImproperlyConfigured) as caught:
        switch.register()
    assert str(caught.value).startswith(said)
    assert "s3cr3t" not in str(caught.value)
    assert not tracing.is_on()


@pytest.mark.parametrize(
    ("before", "values", "said"),
    [
        (WITHOUT_THE_EXTRA, {}, "OpenTelemetry is not installed: make tracing installs it"),
        ("", {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, "OpenTelemetry refuses a variable OTEL_"),
    ],
)
def test_process__that_cannot_trace_ends_with_one_line_that_says_why(before, values, said):
    code = before + "import django; django.setup()"
    done = python(code, OTEL_EXPORTER_OTLP_ENDPOINT=HERE, **values)
    assert done.returncode != 0
    assert said in done.stderr.strip().splitlines()[-1]


def test_headers__come_from_the_environment_or_a_file(collector, tmp_path):
    secret = tmp_path / "headers"
    secret.write_text("x-key=s3cr3t%20word,x-team=ops\n")
    code = (
        "import django; django.setup()\nfrom engine import tracing\n"
        "tracing.begin('one').end({})\ntracing.flush(5)"
    )
    done = python(
        code,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_HEADERS_FILE=str(secret),
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_SERVICE_NAME="shop",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
    )
    assert done.returncode == 0, done.stderr
    (fields,) = collector.fields
    named = {name.lower(): value for name, value in fields.items()}
    assert (named["x-key"], named["x-team"]) == ("s3cr3t word", "ops")
    (span,) = collector.spans
    assert span.service == "shop"
    assert span.resource["deployment.environment.name"] == "test"
    assert "s3cr3t" not in done.stdout + done.stderr


# --- processes ------------------------------------------------------------------------------------
def test_fork__each_child_posts_by_a_thread_of_its_own(collector):
    """A worker's parent has no thread; the spans of a process go out when it ends."""
    done = python(FORKING, f"{collector.url}/v1/traces")
    assert done.returncode == 0, done.stderr
    assert [span.name for span in collector.spans] == ["in a child"] * 2 + ["in the parent"]
    assert {span.service for span in collector.spans} == {"ai-business-engine-worker"}
    assert len({span.resource["service.instance.id"] for span in collector.spans}) == 3
    assert len({span.id for span in collector.spans}) == 3


# --- a receiver that is no good -------------------------------------------------------------------
@pytest.fixture
def told(monkeypatch):
    """What is said in the log of spans that were not taken."""
    found: list[str] = []
    monkeypatch.setattr(
        posting,
        "log",
        SimpleNamespace(
            warning=lambda event, **_words: found.append(event), debug=lambda *_a, **_w: None
        ),
    )
    return found


def test_receiver__that_never_answers_holds_nothing_up(tracer, collector, told):
    """More spans than are kept: the oldest are lost, nobody waits, and nothing grows."""
    collector.answering.clear()
    began, cost = time.monotonic(), time.thread_time()
    for _ in range(5_000):
        tracing.begin("work").end({})
    worked, cost = time.monotonic() - began, time.thread_time() - cost
    eventually(lambda: collector.bodies, within=5, what="a batch is on its way")
    began = time.monotonic()
    tracer.flush(0.5)
    flushed = time.monotonic() - began
    print(f"5,000 spans while nobody answers: {cost * 1e6 / 5000:.0f} µs of processor each")
    # One of their ten batches alone would have been waited for 10 s.
    assert worked < 10
    assert flushed < 2
    assert len(tracer._processor._batch_processor._queue) <= 2048


def test_receiver__that_is_away_is_not_waited_for_and_told_once(told, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    tracer = Tracer(endpoint="http://127.0.0.1:1/v1/traces", headers="")
    tracing.register(tracer)
    try:
        tracing.begin("lost").end({})
        eventually(lambda: told, within=10)
        tracing.begin("lost too").end({})
        processor = tracer._processor
        eventually(lambda: processor.exporter.lost >= 2, within=10)
        tracing.begin("last").end({})
        began = time.monotonic()
        tracing.flush(5)
        assert time.monotonic() - began < 0.5
        assert told == ["spans_not_taken"]
    finally:
        tracing.register(None)
        tracer._processor.shutdown()


def test_receiver__that_is_back_is_used_again(tracer, collector, told):
    collector.status = 401
    tracing.begin("refused").end({})
    tracer._processor.force_flush()
    assert told == ["spans_not_taken"]
    collector.status = 200
    tracing.begin("taken").end({})
    tracer._processor.force_flush()
    assert told == ["spans_not_taken", "spans_taken_again"]
    assert [span.name for span in collector.spans] == ["taken"]


def test_tracer__that_breaks_is_switched_off_and_breaks_nothing(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    tracing.register(Tracer(endpoint="http://127.0.0.1:1/v1/traces", headers=""))
    try:
        with caplog.at_level(logging.ERROR):
            assert tracing.begin("anything") is tracing.NOTHING
        assert not tracing.is_on()
        assert "tracing_failed" in caplog.text
    finally:
        tracing.register(None)


def test_span__is_ended_once_by_whoever_comes_first(tracer, collector):
    span = tracing.begin("judged")
    judges = [threading.Thread(target=span.end, args=({"step.outcome": str(n)},)) for n in range(8)]
    for judge in judges:
        judge.start()
    for judge in judges:
        judge.join()
    tracer.flush(5)
    assert len(collector.spans) == 1


def test_current__is_the_innermost_open_one(tracer):
    assert tracing.current.get() == ""
    with tracing.begin("outer") as outer:
        with tracing.begin("inner", parent=outer.traceparent) as inner:
            assert tracing.current.get() == inner.traceparent
        assert tracing.current.get() == outer.traceparent
    assert tracing.current.get() == ""
