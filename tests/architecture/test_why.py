"""Nothing waits without a reason: states, causes and reasons of release are told completely.

Who adds a state of a run or a step, a cause, or a reason of release, fails here until `why` tells
of it and a case below shows it over real rows.
"""

from __future__ import annotations

import ast
import re
import uuid
from enum import StrEnum
from itertools import product
from pathlib import Path

import pytest
from django.db import connection

from engine import execution, lanes, leases, runs, wait_reasons, why
from engine.causes import ReleaseReason, WaitCause
from engine.models import Effect, Run, StepRun
from engine.states import RUN_TERMINAL, STEP_TERMINAL, RunState, StepState
from engine.transitions import failures
from engine.transitions import runs as run_moves
from tests.waiting import present

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("engine", "departments", "orchestration", "config")
R, S, C = RunState, StepState, WaitCause

#: What each pair of states that the engine can produce is told as, everything else being well.
EXPECTED = {
    (R.PENDING, S.WAITING): C.DEPENDENCY,
    (R.PENDING, S.READY): C.DISPATCH,
    (R.PENDING, S.QUEUED): C.QUEUED,
    (R.RUNNING, S.WAITING): C.DEPENDENCY,
    (R.RUNNING, S.READY): C.DISPATCH,
    (R.RUNNING, S.QUEUED): C.QUEUED,
    (R.RUNNING, S.RUNNING): C.RUNNING,
    (R.RUNNING, S.RETRY_WAIT): C.BACKOFF,
    (R.RUNNING, S.SLEEPING): C.SLEEPING,
    (R.RUNNING, S.AWAITING): C.AWAITING,
    (R.PAUSED, S.WAITING): C.DEPENDENCY,
    (R.PAUSED, S.READY): C.RUN_PAUSED,
    (R.PAUSED, S.QUEUED): C.RUN_PAUSED,
    (R.PAUSED, S.RUNNING): C.RUNNING,
    (R.PAUSED, S.RETRY_WAIT): C.RUN_PAUSED,
    (R.PAUSED, S.SLEEPING): C.SLEEPING,
    (R.PAUSED, S.AWAITING): C.AWAITING,
    (R.BLOCKED, S.WAITING): C.UPSTREAM_DEAD_LETTER,
    (R.BLOCKED, S.READY): C.DISPATCH,
    (R.BLOCKED, S.QUEUED): C.QUEUED,
    (R.BLOCKED, S.RUNNING): C.RUNNING,
    (R.BLOCKED, S.RETRY_WAIT): C.BACKOFF,
    (R.BLOCKED, S.SLEEPING): C.SLEEPING,
    (R.BLOCKED, S.AWAITING): C.AWAITING,
    (R.CANCELLING, S.WAITING): C.RUN_ENDING,
    (R.CANCELLING, S.READY): C.RUN_ENDING,
    (R.CANCELLING, S.QUEUED): C.RUN_ENDING,
    (R.CANCELLING, S.RUNNING): C.RUNNING,
    (R.CANCELLING, S.RETRY_WAIT): C.RUN_ENDING,
    (R.CANCELLING, S.SLEEPING): C.RUN_ENDING,
    (R.CANCELLING, S.AWAITING): C.RUN_ENDING,
}
#: A claim begins its run in the same statement, and these states come after a claim.
IMPOSSIBLE = {(R.PENDING, s) for s in (S.RUNNING, S.RETRY_WAIT, S.SLEEPING, S.AWAITING)}
OPEN_RUNS = [state for state in RunState if state not in RUN_TERMINAL]
OPEN_STEPS = [state for state in StepState if state not in STEP_TERMINAL]


def untold(run_states, step_states) -> set:
    """Pairs of states that no line above speaks of."""
    return set(product(run_states, step_states)) - set(EXPECTED) - IMPOSSIBLE


def begun(line) -> tuple[uuid.UUID, list[int]]:
    """Start a run and expand its map; return it and its two items, sent and not begun."""
    run_id = runs.submit(automation="lab.squares", input={"count": 2}, trigger="api").run_id
    for _ in range(2):
        execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    return run_id, [message.id for message in line.messages]


def claimed(step_run_id: int):
    (step,) = leases.claim(step_run_ids=[step_run_id], worker="w/1")
    return step


def into(step_run_id: int, state: StepState) -> None:
    """Bring a step that is queued into a state; by the engine, where it has the move already."""
    if state == S.READY:
        leases.hand_back(step_run_ids=[step_run_id], reason=ReleaseReason.MESSAGE_LOST)
    elif state == S.RUNNING:
        claimed(step_run_id)
    elif state == S.RETRY_WAIT:
        claimed(step_run_id)
        leases.worker_lost(step_run_ids=[step_run_id], worker="w/1")
    elif state in {S.SLEEPING, S.AWAITING}:
        claimed(step_run_id)
        StepRun.objects.filter(pk=step_run_id).update(state=state, claim=None)


def bury(step_run_id: int) -> None:
    step = claimed(step_run_id)
    failures.bury(
        step_run_id=step.id, claim=step.claim, code="broken", message="Broken.", fail_run=False
    )


def of(run_id, step_run_id: int) -> wait_reasons.Reason:
    (found,) = [s for s in why.explain(run_id=run_id).steps if s.step_run_id == step_run_id]
    return found.reason


@pytest.mark.parametrize(
    ("run_state", "step_state"), EXPECTED, ids=[f"{run}-{step}" for run, step in EXPECTED]
)
def test_pair_of_states__has_its_cause(line, run_state, step_state):
    present("lab", "orchestrator")
    if run_state == R.PENDING:
        run_id = runs.submit(automation="lab.squares", input={"count": 2}, trigger="api").run_id
        target = line.messages[0].id
    else:
        run_id, (other, target) = begun(line)
    if run_state == R.BLOCKED:
        bury(other)
    if step_state == S.WAITING:
        target = StepRun.objects.get(run_id=run_id, key="total").pk
    into(target, step_state)
    # The first of two transactions each: what a death of the process would leave.
    if run_state == R.PAUSED:
        run_moves.pause(run_id=run_id)
    elif run_state == R.CANCELLING:
        run_moves.begin_ending(run_id=run_id, ending="cancelled")
    assert Run.objects.get(pk=run_id).state == run_state
    assert StepRun.objects.get(pk=target).state == step_state
    found = of(run_id, target)
    assert found.cause == EXPECTED[run_state, step_state]
    assert len(found.text) > 10
    assert why.explain(run_id=run_id).run is not None


def behind_a_dead_step(line):
    run_id, (other, _target) = begun(line)
    bury(other)
    return why.explain(run_id=run_id).run


def in_a_paused_department(line):
    run_id, (_other, target) = begun(line)
    lanes.pause(slug="lab", actor="ann")
    return of(run_id, target)


def without_a_worker(line):
    run_id, (_other, target) = begun(line)
    present("orchestrator")
    return of(run_id, target)


def beyond_the_limit(line):
    run_id, (other, target) = begun(line)
    lanes.limit(slug="lab", max_concurrency=1)
    into(target, S.READY)
    assert StepRun.objects.get(pk=other).state == "queued"
    return of(run_id, target)


def in_a_worker_s_hands(line):
    run_id, (_other, target) = begun(line)
    present("lab", held=[target])
    return of(run_id, target)


def under_a_claim(line):
    run_id, (_other, target) = begun(line)
    StepRun.objects.filter(pk=target).update(claim=uuid.uuid4(), worker="w/1")
    return of(run_id, target)


def asked_to_stop(line):
    run_id, (_other, target) = begun(line)
    into(target, S.RUNNING)
    runs.cancel(run_id=run_id, actor="ann")
    return of(run_id, target)


def lease(**values) -> None:
    # One moment for all: a renewal up to the deadline writes the same to both columns.
    columns = ", ".join(
        f"{name} = now() + interval '{seconds} s'" for name, seconds in values.items()
    )
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE engine_lease SET {columns}")


def of_a_silent_worker(line):
    run_id, (_other, target) = begun(line)
    into(target, S.RUNNING)
    lease(expires_at=-1, deadline_at=100)
    return of(run_id, target)


def beyond_its_deadline(line):
    run_id, (_other, target) = begun(line)
    into(target, S.RUNNING)
    lease(expires_at=-1, deadline_at=-1)
    return of(run_id, target)


def behind_an_unknown_effect(line):
    run_id, (_other, target) = begun(line)
    into(target, S.AWAITING)
    at = StepRun.objects.get(pk=target).ready_at
    values = {"key": "k", "state": "unknown", "attempt": 1, "planned_at": at, "sent_at": at}
    Effect.objects.create(run_id=run_id, step_run_id=target, name="mail", **values)
    return of(run_id, target)


#: Causes that a pair of states alone does not bring.
CASES = {
    behind_a_dead_step: C.BLOCKED,
    in_a_paused_department: C.DEPARTMENT_PAUSED,
    without_a_worker: C.NO_WORKER,
    beyond_the_limit: C.CONCURRENCY,
    in_a_worker_s_hands: C.HELD,
    under_a_claim: C.HELD,
    asked_to_stop: C.CANCELLING,
    of_a_silent_worker: C.WORKER_SILENT,
    beyond_its_deadline: C.DEADLINE_PASSED,
    behind_an_unknown_effect: C.EFFECT_UNKNOWN,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_case__has_its_cause(line, case):
    present("lab", "orchestrator")
    assert case(line).cause == CASES[case]


def test_states__are_all_told_of():
    assert untold(OPEN_RUNS, OPEN_STEPS) == set()
    assert set(EXPECTED) | IMPOSSIBLE == set(product(OPEN_RUNS, OPEN_STEPS))
    assert set(wait_reasons._BY_STATE) == set(OPEN_STEPS)


def test_causes__each_has_a_case_and_a_meaning():
    assert shown(WaitCause) == set()
    for cause in (*WaitCause, *ReleaseReason):
        assert re.fullmatch(r"[A-Z].*\.", cause.meaning), cause


def shown(causes) -> set:
    """Causes that no case brings."""
    return set(causes) - set(EXPECTED.values()) - set(CASES.values())


def test_detector__sees_a_state_or_a_cause_that_nobody_tells_of():
    more = {state.name: state.value for state in StepState} | {"STALLED": "stalled"}
    copy = [s for s in StrEnum("StepState", more) if s.value not in set(STEP_TERMINAL)]
    assert {str(step) for _run, step in untold(OPEN_RUNS, copy)} == {"stalled"}
    assert {str(run) for run, _step in untold([*OPEN_RUNS, "hibernating"], OPEN_STEPS)} == {
        "hibernating"
    }
    assert shown([*WaitCause, "moon_phase"]) == {"moon_phase"}


# --- reasons of release ------------------------------------------------------------------------

RELEASING = re.compile(r"^_?(hand_)?back(_|$)|^hand_back")
IN_SQL = re.compile(r"""["']reason["'][,:]\s*["'](\w+)["']""")


def reasons_in(source: str) -> tuple[set[str], list[str]]:
    """Return the reasons of release that a module writes, and what cannot be told for sure."""
    written: set[str] = set()
    odd: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "'step.released'" in node.value:
                written.update(IN_SQL.findall(node.value))
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            given = [k.value for k in node.keywords if k.arg == "reason"]
            if not RELEASING.match(name) or not given:
                continue
            value = given[0]
            if isinstance(value, ast.Constant):
                written.add(str(value.value))
            elif isinstance(value, ast.Attribute) and ast.unparse(value.value) == "ReleaseReason":
                written.add(value.attr.lower())
            elif ast.unparse(value) != "reason":
                odd.append(f"line {node.lineno}: {ast.unparse(value)}")
    return written, odd


def sources():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield path.relative_to(ROOT), path.read_text()


def test_releases__give_reasons_that_have_a_meaning():
    written: set[str] = set()
    for path, source in sources():
        found, odd = reasons_in(source)
        assert odd == [], path
        assert found <= {reason.value for reason in ReleaseReason}, path
        written |= found
    assert written == {reason.value for reason in ReleaseReason}


@pytest.mark.parametrize(
    "source",
    [
        "leases.hand_back(step_run_ids=[1], reason='mood')",
        "dispatch.hand_back_of_run(run_id=1, reason='mood', actor='')",
        "_back(which, {}, reason='mood', actor='')",
        """sql = "SELECT 'step.released', '{\\"reason\\": \\"mood\\"}'" """,
        """sql = "SELECT 'step.released', jsonb_build_object('reason', 'mood')" """,
    ],
)
def test_detector__sees_each_way_of_giving_a_reason(source):
    assert reasons_in(source)[0] == {"mood"}


def test_detector__refuses_a_reason_it_cannot_read():
    assert reasons_in("leases.hand_back(step_run_ids=[1], reason=mood())")[1]
