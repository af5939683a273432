"""What a run leaves in its trace, turned by hand: submission, plan, attempts, requeue, loss."""

from __future__ import annotations

import pytest

from engine import dead_letters, heartbeat, leases, runs, sql, tracing
from engine.models import DeadLetter, Run
from orchestration import chunks

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


pytestmark = pytest.mark.usefixtures("quiet_afterwards")


def submit(automation: str, **values):
    return runs.submit(
        automation=automation, input=values, trigger="api", traceparent=TRACEPARENT
    ).run_id


def spans(tracer, collector, *, trace_id: str = TRACE):
    tracer.flush(5)
    return collector.of(trace_id)


def named(found, name: str):
    return [span for span in found if span.name == name]


def one(found, name: str):
    (span,) = named(found, name)
    return span


def until_dead(line) -> None:
    for _ in range(10):
        line.deliver()
        sql.count("UPDATE engine_steprun SET next_at = now() WHERE state = 'retry_wait'")
        line.manage()


def test_run__is_one_trace_across_retries_and_a_requeue(line, tracer, collector, tmp_path):
    run_id = submit("lab.fragile", folder=str(tmp_path))
    until_dead(line)
    letter = DeadLetter.objects.get(run_id=run_id)
    with tracing.begin("asked", kind="server") as asked:
        dead_letters.requeue(dead_letter_id=letter.pk, actor="ann")
    (tmp_path / "mended").touch()
    line.manage()
    line.deliver()
    assert Run.objects.get(pk=run_id).state == "succeeded"

    found = spans(tracer, collector)
    submission = one(found, "submit lab.fragile")
    assert submission.parent == CALLER
    assert Run.objects.get(pk=run_id).traceparent == f"00-{TRACE}-{submission.id}-01"
    assert one(found, "plan lab.fragile").parent == submission.id
    assert one(found, "send lab").parent == submission.id

    attempts = named(found, "step fragile")
    assert [span.words["step.attempt"] for span in attempts] == [1, 2, 3, 4]
    outcomes = [span.words["step.outcome"] for span in attempts]
    assert outcomes == ["retried", "retried", "dead", "succeeded"]
    assert [span.failed for span in attempts] == [True, True, True, False]
    assert [span.words.get("error.type") for span in attempts] == ["broken"] * 3 + [None]
    assert {span.parent for span in attempts} == {submission.id}
    step = attempts[0].words
    assert step["run.id"] == str(run_id)
    assert (step["run.automation"], step["run.department"]) == ("lab.fragile", "lab")
    assert (step["step.key"], step["worker"]) == ("fragile", "test/1")
    assert step["step.id"] == letter.step_run_id

    requeue = one(found, "requeue fragile")
    assert requeue.parent == submission.id
    assert requeue.links == [tuple(asked.traceparent.split("-")[1:3])]
    assert attempts[2].ended <= requeue.begun <= attempts[3].begun
    for span in (one(found, "step first"), one(found, "step last")):
        assert span.words["step.outcome"] == "succeeded"


def test_submission__of_a_used_key_names_the_run_that_is_there(line, tracer, collector):
    first, again = (
        runs.submit(automation="lab.squares", input={}, trigger="api", dedupe_key="k")
        for _ in range(2)
    )
    assert (first.created, again.created) == (True, False)
    tracer.flush(5)
    told = [span.words for span in collector.spans if span.name == "submit lab.squares"]
    assert [(words["run.id"], words["run.created"]) for words in told] == [
        (str(first.run_id), True),
        (str(first.run_id), False),
    ]
    # Each asked by itself: two traces, and the run keeps the first.
    assert len({span.trace_id for span in collector.spans}) == 2


def test_message__stands_between_the_run_and_its_attempts(line, tracer, collector):
    """A map is planned by an attempt of its own; each message tells every run it names."""
    ours, others = submit("lab.squares", count=2), submit("lab.squares", count=1)
    ids = [message.id for message in line.messages]
    line.messages.clear()
    chunks.execute(step_run_ids=ids, worker="test/1", queue="lab", task_id="t-1")
    line.deliver()

    found = spans(tracer, collector)
    submissions = {span.words["run.id"]: span for span in named(found, "submit lab.squares")}
    received = {span.words["run.id"]: span for span in named(found, "receive lab")}
    assert set(received) == {str(ours), str(others)}
    for run_id, span in received.items():
        assert span.parent == submissions[run_id].id
        assert (span.kind, span.words["messaging.message.id"]) == ("consumer", "t-1")
    for span in named(found, "step numbers"):
        assert span.parent == received[span.words["run.id"]].id
    planned = [span for span in named(found, "plan square") if span.words["run.id"] == str(ours)]
    assert [span.words["step.items"] for span in planned] == [2]
    indexes = {
        span.words["step.map_index"]
        for span in named(found, "step square")
        if span.words["run.id"] == str(ours)
    }
    assert indexes == {0, 1}


def test_ctx__hands_the_attempt_on_to_others(line, tracer, collector, outside, tmp_path):
    run_id = submit("lab.outside", url=outside.url, folder=str(tmp_path))
    line.deliver()
    assert Run.objects.get(pk=run_id).state == "succeeded"
    found = spans(tracer, collector)
    effect = one(found, "effect call")
    assert effect.parent == one(found, "step call_outside").id
    assert effect.kind == "client"


def test_attempt__whose_worker_is_lost_is_told_by_who_finds_it(line, tracer, collector, tmp_path):
    submit("lab.fragile", folder=str(tmp_path))
    (message,) = line.messages
    leases.claim(step_run_ids=[message.id], worker="gone/1")
    leases.worker_lost(step_run_ids=[message.id], worker="gone/1")
    found = spans(tracer, collector)
    lost = one(found, "step first")
    assert lost.parent == one(found, "submit lab.fragile").id
    assert (lost.words["step.outcome"], lost.words["error.type"]) == ("retried", "worker_lost")
    assert (lost.failed, lost.words["worker"], lost.words["step.attempt"]) == (True, "gone/1", 1)


def test_attempt__that_lost_its_claim_is_no_success(line, ledger, tracer, collector):
    submit("lab.writer", mode="lose_claim")
    line.deliver()
    outcomes = [
        (span.words["step.outcome"], span.words["error.type"])
        for span in named(spans(tracer, collector), "step writer")
    ]
    assert ("refused", "claim_lost") in outcomes
    assert not any(outcome == "succeeded" for outcome, _error in outcomes)


def test_timeout__is_told_before_the_process_is_ended(
    line, tracer, collector, tmp_path, monkeypatch
):
    """Judged by the heartbeat's thread, beside a body that goes on."""
    at_the_end = []

    def end_process() -> None:
        at_the_end.append(named(collector.of(TRACE), "step hung"))
        (tmp_path / "freed").touch()

    monkeypatch.setattr(heartbeat.heart, "end_process", end_process)
    submit("lab.hung", folder=str(tmp_path))
    line.deliver()
    (span,) = at_the_end[0]
    assert (span.words["step.outcome"], span.words["error.type"]) == ("retried", "timeout")
    assert span.failed


def test_spans__hold_no_payload_and_no_text_of_an_error(line, tracer, collector):
    submit("lab.secret", count=31337)
    until_dead(line)
    attempts = named(spans(tracer, collector), "step crash_with_secret")
    assert [span.words["error.type"] for span in attempts] == ["unexpected_error"] * 3
    for body in collector.bodies:
        assert b"hunter2" not in body
        assert b"31337" not in body


@pytest.mark.parametrize("flags", ["00", "01"])
def test_caller__decides_whether_the_trace_is_kept(line, tracer, collector, flags):
    run_id = runs.submit(
        automation="lab.squares",
        input={},
        trigger="api",
        traceparent=f"00-{TRACE}-{CALLER}-{flags}",
    ).run_id
    line.deliver()
    assert Run.objects.get(pk=run_id).traceparent.endswith(f"-{flags}")
    assert bool(spans(tracer, collector)) == (flags == "01")


def test_run__from_before_tracing_was_on_begins_no_trace(line, collector, tracer):
    tracing.register(None)
    runs.submit(automation="lab.squares", input={}, trigger="api")
    tracing.register(tracer)
    line.deliver()
    tracer.flush(5)
    assert collector.spans == []
