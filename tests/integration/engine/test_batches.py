"""One claim for many steps, one commit for many results, and chains that go on where they are."""

from __future__ import annotations

import threading
import time
from collections import Counter

import psycopg
import pytest
import structlog
from django.db import OperationalError, connection, connections, transaction

from engine import batches, durations, execution, heartbeat, lanes, leases, runs, sql
from engine.authoring import StepError
from engine.models import DeadLetter, Lease, Run, RunEvent, StepOutput, StepRun
from engine.transitions import claims, completions
from orchestration import chunks
from tests.catalog.lab import _dsn
from tests.declared import declared
from tests.eventually import eventually
from tests.held import complete
from tests.integration.engine.test_review import somebody_waits
from tests.integration.engine.test_runs import settle, start, state, states

LAB = {"worker": "w@h/1", "queue": "lab"}
OPEN = """
SELECT state, count(*) FROM engine_steprun
WHERE map_index >= 0 AND state IN ('queued', 'running') GROUP BY 1 ORDER BY 1
"""


@pytest.fixture
def commits(monkeypatch):
    """How many results each completion has written, in order."""
    sizes = []
    original = completions.complete

    def counted(**values):
        sizes.append(len(values["finished"]))
        return original(**values)

    monkeypatch.setattr(completions, "complete", counted)
    return sizes


@pytest.fixture(autouse=True)
def forgotten():
    """No test knows how long steps took in another."""
    durations._seconds.clear()


@pytest.fixture
def unhurried(monkeypatch):
    """Time enough for what is counted here, however busy the machine is."""
    monkeypatch.setattr(batches, "SLICE_SECONDS", 10.0)
    monkeypatch.setattr(batches, "GROUP_SECONDS", 10.0)


@pytest.fixture
def wide(line, shop):
    """Make a run whose items are all sent: returns their ids, in the order of the map."""

    def make(function, count: int, name: str = "wide") -> list[int]:
        def numbers(ctx) -> list[int]:
            return list(range(count))

        def after(ctx, found: list[int]) -> int:
            return sum(found)

        first = shop(f"{name}_numbers", numbers)
        item = shop(f"{name}_item", function)
        last = shop(f"{name}_after", after)
        declared(name, lambda inp: last(found=item.map(number=first())))
        run_id = start(f"lab.{name}")
        for _ in range(2):
            execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w@h/0")
        line.messages.clear()
        found = StepRun.objects.filter(run_id=run_id, map_index__gte=0).order_by("map_index")
        assert len(found) == count
        return [row.pk for row in found]

    return make


@pytest.fixture
def chain(line, shop):
    """Declare a chain of steps that call a function; returns the name of its automation."""

    def make(function, length: int, name: str = "chain") -> str:
        def after(ctx, before: int) -> int:
            function(ctx)
            return before + 1

        def first(ctx) -> int:
            function(ctx)
            return 0

        head, tail = shop(f"{name}_first", first), shop(f"{name}_next", after)

        def graph(inp):
            value = head()
            for _ in range(length - 1):
                value = tail(before=value)
            return value

        return declared(name, graph).name

    return make


def same(ctx, number: int) -> int:
    return number


def told(step_run_id: int) -> list[str]:
    found = RunEvent.objects.filter(step_run_id=step_run_id).order_by("id")
    return list(found.values_list("kind", flat=True))


def due() -> None:
    StepRun.objects.filter(state="retry_wait").update(next_at="2000-01-01T00:00:00Z")


# --- one claim -------------------------------------------------------------------------------


def test_claim__of_several_leaves_them_queued_under_one_lease(wide):
    ids = wide(same, 8)
    held = leases.claim(step_run_ids=ids, worker="w@h/1")
    assert [one.id for one in held] == ids, "in the order of the message"
    assert {one.attempt for one in held} == {1}
    rows = StepRun.objects.filter(pk__in=ids)
    assert {(row.state, row.attempt, row.claim) for row in rows} == {("queued", 0, held[0].claim)}
    (lease,) = Lease.objects.all()
    assert sorted(lease.step_run_ids) == ids
    assert told(ids[0]) == []


def test_claim__of_one_shows_it_as_running(wide):
    ids = wide(same, 2)
    (held,) = leases.claim(step_run_ids=ids[:1], worker="w@h/1")
    assert held.begun
    assert StepRun.objects.get(pk=ids[0]).state == "running"
    assert told(ids[0]) == ["step.started"]


def test_claim__of_several_leaves_out_who_is_to_run_alone(wide):
    ids = wide(same, 3)
    StepRun.objects.filter(pk=ids[1]).update(alone=True)
    held = leases.claim(step_run_ids=ids, worker="w@h/1")
    assert [one.id for one in held] == [ids[0], ids[2]]
    (alone,) = leases.claim(step_run_ids=[ids[1]], worker="w@h/1")
    assert alone.begun


def test_claim__what_a_lost_answer_had_claimed_is_found_by_its_token(wide, monkeypatch, unhurried):
    ids = wide(same, 4)
    original = claims.claim
    tokens = []

    def lost(**values):
        tokens.append(values["claim"])
        found = original(**values)
        if len(tokens) == 1:
            raise OperationalError
        return found

    monkeypatch.setattr(claims, "claim", lost)
    chunks.execute(step_run_ids=ids, **LAB)
    assert len(tokens) == 2
    assert len(set(tokens)) == 1
    rows = StepRun.objects.filter(pk__in=ids)
    assert {(row.state, row.error_message) for row in rows} == {("succeeded", "")}


# --- one commit ------------------------------------------------------------------------------


def test_group__short_steps_are_written_together(line, wide, commits, unhurried):
    ids = wide(same, 32)
    durations.note(step="lab.wide_item", seconds=0.001)
    commits.clear()
    execution.execute(step_run_ids=ids, worker="w@h/1")
    assert commits == [32]
    rows = StepRun.objects.filter(pk__in=ids)
    assert {(row.state, row.attempt) for row in rows} == {("succeeded", 1)}
    assert all(row.started_at <= row.finished_at for row in rows)
    assert [told(one) for one in ids] == [["step.started", "step.succeeded"]] * 32
    values = StepOutput.objects.filter(step_run_id__in=ids).order_by("step_run__map_index")
    assert [output.value for output in values] == list(range(32))
    assert not Lease.objects.exists()
    assert [message.id for message in line.messages] == [StepRun.objects.get(key="wide_after").pk]


def test_group__is_written_when_its_time_is_over(wide, commits, monkeypatch):
    monkeypatch.setattr(batches, "SLICE_SECONDS", 10.0)
    ids = wide(lambda ctx, number: time.sleep(0.02) or number, 8)
    durations.note(step="lab.wide_item", seconds=0.001)
    commits.clear()
    execution.execute(step_run_ids=ids, worker="w@h/1")
    assert len(commits) > 1
    assert max(commits) <= 4


def test_group__is_written_before_a_body_that_is_expected_to_be_long(wide, commits, unhurried):
    ids = wide(same, 3)
    durations.note(step="lab.wide_item", seconds=1000.0)
    commits.clear()
    execution.execute(step_run_ids=ids, worker="w@h/1")
    assert commits == [1] * 3


def test_group__a_fenced_member_drops_out_and_the_others_stand(wide):
    ids = wide(same, 4)
    held = leases.claim(step_run_ids=ids, worker="w@h/1")
    StepRun.objects.filter(pk=ids[1]).update(claim=None, state="ready")
    assert complete(*held, successors=["wide_after"]).done == {ids[0], ids[2], ids[3]}
    assert StepRun.objects.get(pk=ids[1]).state == "ready"
    assert not StepOutput.objects.filter(step_run_id=ids[1]).exists()


def test_group__a_refused_member_is_named_in_the_log(wide):
    """Not the step that runs when the others' results are refused."""
    ids = wide(same, 3)
    held = leases.claim(step_run_ids=ids, worker="w@h/1")
    StepRun.objects.filter(pk=ids[1]).update(claim=None, state="ready")
    with structlog.testing.capture_logs() as logged:
        execution.run(held)
    (said,) = [line for line in logged if line["event"] == "late_write_refused"]
    row = StepRun.objects.get(pk=ids[1])
    assert (said["step_id"], said["run_id"], said["step"], said["attempt"]) == (
        row.pk, str(row.run_id), row.key, 1,
    )  # fmt: skip


def test_group__members_of_several_runs_end_their_runs(line, shop, commits, unhurried):
    one = shop("one", lambda ctx: 1)
    declared("single", lambda inp: one())
    durations.note(step="lab.one", seconds=0.001)
    found = [start("lab.single") for _ in range(5)]
    ids = [line.messages.pop(0).id for _ in range(5)]
    execution.execute(step_run_ids=ids, worker="w@h/1")
    assert commits == [5]
    assert [state(run_id) for run_id in found] == ["succeeded"] * 5


def test_group__a_failure_among_them_is_its_own(line, wide, unhurried):
    def odd(ctx, number: int) -> int:
        if number == 3:
            raise StepError("odd", "It is.")
        return number

    ids = wide(odd, 6)
    execution.execute(step_run_ids=ids, worker="w@h/1")
    rows = {row.map_index: row for row in StepRun.objects.filter(pk__in=ids)}
    assert {n: row.state for n, row in rows.items()} == {
        n: "dead" if n == 3 else "succeeded" for n in range(6)
    }
    assert told(ids[3]) == ["step.started", "step.dead"]
    assert (rows[3].attempt, rows[3].failures) == (1, 1)
    assert not Lease.objects.exists()


def test_group__an_answer_lost_at_its_commit_is_found_again(wide, monkeypatch, unhurried):
    ids = wide(same, 4)
    durations.note(step="lab.wide_item", seconds=0.001)
    original = completions.complete
    lost = []

    def lose(**values):
        found = original(**values)
        if not lost:
            lost.append(1)
            raise OperationalError
        return found

    monkeypatch.setattr(completions, "complete", lose)
    execution.execute(step_run_ids=ids, worker="w@h/1")
    assert lost
    assert {row.state for row in StepRun.objects.filter(pk__in=ids)} == {"succeeded"}
    assert {row.attempt for row in StepRun.objects.filter(pk__in=ids)} == {1}
    assert not Lease.objects.exists()


def test_group__writing_steps_commit_alone(line, ledger, commits, unhurried):
    run_id = start("lab.booking", count=6)
    for _ in range(2):
        execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w@h/1")
    ids = [line.messages.pop(0).id for _ in range(6)]
    commits.clear()
    execution.execute(step_run_ids=ids, worker="w@h/1")
    assert commits == [1] * 6
    assert len(ledger()) == 6
    settle(line, run_id, "succeeded")


# --- sticky ----------------------------------------------------------------------------------


def test_sticky__a_chain_runs_in_one_go_and_without_a_message(line, chain, commits, unhurried):
    shown = []

    def look(ctx):
        shown.append(ctx.step)

    run_id = start(chain(look, 12))
    assert execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB) == 1
    assert len(shown) == 12
    assert commits == [1] * 12, "each is durable before the next begins"
    assert line.messages == []
    assert state(run_id) == "succeeded"
    assert Run.objects.get().finished_at
    rows = StepRun.objects.filter(run_id=run_id)
    assert {(row.state, row.attempt) for row in rows} == {("succeeded", 1)}
    assert all(told(row.pk) == ["step.started", "step.succeeded"] for row in rows)
    assert StepOutput.objects.get(step_run_id=min(row.pk for row in rows)).value == 11
    assert not Lease.objects.exists()


def test_sticky__the_successor_is_running_under_the_same_claim_and_lease(line, chain):
    run_id = start(chain(lambda ctx: None, 3))
    (first,) = leases.claim(step_run_ids=[line.messages[0].id], worker="w@h/1")
    done = complete(first, successors=["chain_next"], queue="lab", sticky={first.id: "chain_next"})
    (second,) = done.held
    assert done.ready == []
    row = StepRun.objects.get(run_id=run_id, key="chain_next")
    assert (row.state, row.claim, row.attempt) == ("running", first.claim, 1)
    (lease,) = Lease.objects.all()
    assert (lease.claim, lease.step_run_ids) == (first.claim, [first.id])
    assert [one.id for one in claims.still_open(claim=first.claim, worker="w@h/1")] == [second.id]
    leases.worker_lost(step_run_ids=[first.id], worker="w@h/1")
    row.refresh_from_db()
    assert (row.state, row.crashes) == ("retry_wait", 1), "it ran alone"
    due()
    settle(line, run_id, "succeeded")


def test_sticky__ends_with_its_slice_of_time(line, chain):
    run_id = start(chain(lambda ctx: time.sleep(0.04), 6))
    execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB)
    ended = StepRun.objects.filter(run_id=run_id, state="succeeded").count()
    assert 2 <= ended <= 4
    (message,) = line.messages
    assert StepRun.objects.get(pk=message.id).claim is None
    settle(line, run_id, "succeeded")


def test_sticky__a_fork_goes_on_with_one_and_sends_the_other(line, shop, unhurried):
    one = shop("one", lambda ctx: 1)
    names = []

    def left(ctx, number: int) -> int:
        names.append("left")
        return number

    def right(ctx, number: int) -> int:
        names.append("right")
        return number

    def both(ctx, first: int, second: int) -> int:
        names.append("both")
        return first + second

    a, b, join = shop("left", left), shop("right", right), shop("both", both)

    def graph(inp):
        number = one()
        return join(first=a(number=number), second=b(number=number))

    declared("fork", graph)
    run_id = start("lab.fork")
    execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB)
    assert names == ["left"]
    (message,) = line.messages
    assert StepRun.objects.get(pk=message.id).key == "right"
    execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB)
    assert names == ["left", "right", "both"]
    assert state(run_id) == "succeeded"


@pytest.mark.parametrize("what", ["run paused", "lane paused", "lane limited", "run cancelled"])
def test_sticky__stops_where_nothing_new_may_begin(line, chain, what, unhurried):
    seen = []
    run_ids = []

    def stop(ctx):
        seen.append(ctx.step)
        if len(seen) == 2:
            action = {
                "run paused": lambda: runs.pause(run_id=run_ids[0], actor="ann"),
                "lane paused": lambda: lanes.pause(slug="lab", actor="ann"),
                "lane limited": lambda: lanes.limit(slug="lab", max_concurrency=1),
                "run cancelled": lambda: runs.cancel(run_id=run_ids[0], actor="ann"),
            }[what]
            thread = threading.Thread(target=_closing(action))
            thread.start()
            thread.join()

    run_ids.append(start(chain(stop, 5)))
    execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB)
    assert len(seen) == 2
    counted = Counter(states(run_ids[0]).values())
    third = "cancelled" if what == "run cancelled" else "ready"
    assert counted["succeeded"] == 2
    assert counted[third] >= 1
    assert line.messages == []
    assert not Lease.objects.exists()


def _closing(action):
    def closed():
        try:
            action()
        finally:
            connections.close_all()

    return closed


def test_sticky__a_chunk_goes_on_as_a_chunk(line, chain, commits, unhurried):
    name = chain(lambda ctx: None, 3)
    for step in ("lab.chain_first", "lab.chain_next"):
        durations.note(step=step, seconds=0.001)
    found = [start(name) for _ in range(10)]
    ids = [line.messages.pop(0).id for _ in range(10)]
    execution.execute(step_run_ids=ids, **LAB)
    assert commits == [10, 10, 10]
    assert [state(run_id) for run_id in found] == ["succeeded"] * 10
    assert line.messages == []
    assert not Lease.objects.exists()


def test_sticky__what_a_lost_answer_had_claimed_goes_on(line, chain, monkeypatch):
    run_id = start(chain(lambda ctx: None, 4))
    original = completions.complete
    lost = []

    def lose(**values):
        found = original(**values)
        if len(lost) < 2:
            lost.append(1)
            raise OperationalError
        return found

    monkeypatch.setattr(completions, "complete", lose)
    monkeypatch.setattr(batches, "SLICE_SECONDS", 10.0)
    execution.execute(step_run_ids=[line.messages.pop(0).id], **LAB)
    assert len(lost) == 2
    assert state(run_id) == "succeeded"
    assert {row.attempt for row in StepRun.objects.filter(run_id=run_id)} == {1}


# --- loss ------------------------------------------------------------------------------------


def test_loss__of_a_chunk_blames_nobody_and_lets_each_run_alone(line, wide):
    ids = wide(same, 5)
    leases.claim(step_run_ids=ids, worker="w@h/1")
    assert leases.worker_lost(step_run_ids=ids, worker="w@h/1") == 5
    rows = StepRun.objects.filter(pk__in=ids)
    assert {(r.state, r.crashes, r.attempt, r.alone) for r in rows} == {("ready", 0, 0, True)}
    assert not Lease.objects.exists()
    line.manage()
    assert sorted(message.id for message in line.messages) == ids
    assert all(message.alone for message in line.messages)


def test_loss__one_that_ends_its_workers_dies_alone(line, wide):
    ids = wide(same, 32)
    killer = ids[7]
    leases.claim(step_run_ids=ids, worker="w@h/1")
    leases.worker_lost(step_run_ids=ids, worker="w@h/1")
    for _ in range(3):
        due()
        line.manage()
        while line.messages:
            message = line.messages.pop(0)
            if message.id == killer:
                (held,) = leases.claim(step_run_ids=[killer], worker="w@h/1")
                leases.worker_lost(step_run_ids=[killer], worker="w@h/1")
                assert held.begun
            else:
                execution.execute(step_run_ids=[message.id], **LAB)
    counted = Counter(row.state for row in StepRun.objects.filter(pk__in=ids))
    assert counted == {"succeeded": 31, "dead": 1}
    letter = DeadLetter.objects.get()
    assert (letter.step_run_id, letter.crashes, letter.error_code) == (killer, 3, "worker_lost")


def test_loss__a_stop_by_its_own_shutdown_marks_nobody(wide):
    ids = wide(same, 3)
    leases.claim(step_run_ids=ids, worker="w@h/1")
    leases.worker_lost(step_run_ids=ids, worker="w@h/1", blame=False)
    rows = StepRun.objects.filter(pk__in=ids)
    assert {(row.state, row.alone) for row in rows} == {("ready", False)}


def test_loss__a_hint_from_before_the_claim_is_of_another_process(wide):
    """A container's processes are named alike again, and a hint may lie about for hours."""
    ids = wide(same, 2)
    leases.claim(step_run_ids=ids, worker="w@h/1")
    assert leases.worker_lost(step_run_ids=[], worker="w@h/1", ago_seconds=60.0) == 0
    assert leases.worker_lost(step_run_ids=[], worker="w@h/1", ago_seconds=0.0) == 2


def test_reap__the_lease_of_a_chunk_gives_back_what_was_not_written(wide):
    ids = wide(same, 4)
    held = leases.claim(step_run_ids=ids, worker="w@h/1")
    complete(*held[:2], successors=["wide_after"], open_ids=ids[2:])
    Lease.objects.update(expires_at="2000-01-01T00:00:00Z")
    assert leases.reap(limit=10) == 2
    rows = {row.pk: row.state for row in StepRun.objects.filter(pk__in=ids)}
    assert list(rows.values()).count("succeeded") == 2
    assert list(rows.values()).count("ready") == 2


# --- a long body -----------------------------------------------------------------------------


def test_long__is_shown_and_gives_back_what_waits_behind_it(line, wide, monkeypatch, settings):
    gate = threading.Event()
    monkeypatch.setattr(heartbeat, "heart", heartbeat.Heartbeat())
    monkeypatch.setattr(execution, "heart", heartbeat.heart)

    def slow(ctx, number: int) -> int:
        if number == 2:
            gate.wait(10)
        return number

    ids = wide(slow, 6)
    durations.note(step="lab.wide_item", seconds=0.001)
    began = time.monotonic()
    worker = threading.Thread(target=_closing(lambda: execution.execute(step_run_ids=ids, **LAB)))
    worker.start()

    def seen() -> bool:
        return StepRun.objects.get(pk=ids[2]).state == "running"

    eventually(seen, within=2)
    assert time.monotonic() - began < 0.6
    rows = {row.map_index: row for row in StepRun.objects.filter(pk__in=ids)}
    assert [rows[n].state for n in range(6)] == ["succeeded"] * 2 + ["running"] + ["queued"] * 3
    assert [rows[n].claim for n in (3, 4, 5)] == [None] * 3
    eventually(lambda: len(line.messages) == 3, within=1)
    assert {message.id for message in line.messages} == set(ids[3:])
    assert told(ids[2]) == ["step.started"]
    gate.set()
    worker.join()
    rows[2].refresh_from_db()
    assert (rows[2].state, rows[2].attempt) == ("succeeded", 1)
    assert (rows[2].finished_at - rows[2].started_at).total_seconds() >= 0.25
    assert told(ids[2]) == ["step.started", "step.succeeded"]
    assert not Lease.objects.exists()
    with psycopg.connect(_dsn(), autocommit=True) as other:
        # The heartbeat's own, which would keep the test's database from being dropped.
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> ALL(%s)",
            [[other.info.backend_pid, connection.connection.info.backend_pid]],
        )


def test_slice__a_chunk_of_slow_steps_hands_back_its_rest(line, wide):
    ids = wide(lambda ctx, number: time.sleep(0.03) or number, 12)
    execution.execute(step_run_ids=ids, **LAB)
    ended = StepRun.objects.filter(pk__in=ids, state="succeeded").count()
    assert 3 <= ended <= 6
    rest = StepRun.objects.filter(pk__in=ids, state="queued", claim=None)
    assert sorted(message.id for message in line.messages) == sorted(row.pk for row in rest)
    assert ended + len(rest) == 12
    assert not Lease.objects.exists()


def test_slice__the_rest_of_a_paused_run_is_ready_and_not_sent(line, wide):
    ids = wide(lambda ctx, number: time.sleep(0.12) or number, 4)
    run_id = StepRun.objects.get(pk=ids[0]).run_id
    held = leases.claim(step_run_ids=ids, worker="w@h/1")
    runs.pause(run_id=run_id, actor="ann")
    execution.run(held, queue="lab")
    counted = Counter(row.state for row in StepRun.objects.filter(pk__in=ids))
    assert counted == {"succeeded": 1, "ready": 3}
    assert line.messages == []
    runs.resume(run_id=run_id, actor="ann")
    settle(line, run_id, "succeeded")


def test_effect__in_a_chunk_is_made_by_a_step_that_is_shown_alone(line, wide):
    seen = []

    def call(ctx, number: int) -> int:
        def look(key: str) -> str:
            with psycopg.connect(_dsn()) as other:
                seen.append(other.execute(OPEN).fetchall())
            return key

        ctx.effect("ping", look)
        return number

    ids = wide(call, 3)
    execution.execute(step_run_ids=ids, **LAB)
    assert seen == [[("queued", 2), ("running", 1)]]
    assert {message.id for message in line.messages} == set(ids[1:])
    line.deliver()
    assert len(seen) == 3
    assert Run.objects.get().state == "succeeded"


def test_sticky__a_join_of_many_chunks_goes_on_in_the_last_one(line, wide, unhurried):
    ids = wide(same, 200)
    durations.note(step="lab.wide_item", seconds=0.001)
    for start_at in range(0, 200, 32):
        execution.execute(step_run_ids=ids[start_at : start_at + 32], **LAB)
    assert Run.objects.get().state == "succeeded"
    assert line.messages == []


def test_sticky__two_chunks_that_meet_at_a_join_ready_it_once(line, wide):
    """The second one waits for the first one's row, and must go on from what it has become."""
    ids = wide(same, 8)
    join = StepRun.objects.get(key="wide_after")
    first = leases.claim(step_run_ids=ids[:6], worker="w@h/1")
    second = leases.claim(step_run_ids=ids[6:], worker="w@h/2")
    sticky = {"successors": ["wide_after"], "queue": "lab"}
    results = []

    def late() -> None:
        results.append(complete(*second, **sticky, sticky={one.id: "wide_after" for one in second}))

    thread = threading.Thread(target=_closing(late))
    with transaction.atomic():
        assert complete(*first, **sticky).held == []
        thread.start()
        eventually(somebody_waits, within=5)
    thread.join()
    (done,) = results
    assert [one.id for one in done.held] == [join.pk]
    join.refresh_from_db()
    assert (join.state, join.pending, join.worker) == ("queued", 0, "w@h/2")


def test_inputs__of_a_chunk_are_read_once(line, shop, unhurried, monkeypatch):
    """Each item's own, and what is the same for all of them."""
    numbers = shop("eight", lambda ctx: list(range(8)))
    base = shop("base", lambda ctx: 100)

    def add(ctx, number: int, more: int) -> int:
        return number + more

    def after(ctx, found: list[int]) -> int:
        return sum(found)

    item, last = shop("add", add), shop("after", after)
    declared("sum", lambda inp: last(found=item.partial(more=base()).map(number=numbers())))
    run_id = start("lab.sum")
    for _ in range(3):
        execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w@h/0")
    ids = [line.messages.pop(0).id for _ in range(8)]
    durations.note(step="lab.add", seconds=0.001)
    asked = []
    original = sql.rows

    def rows(statement, parameters=None):
        asked.append(statement)
        return original(statement, parameters)

    monkeypatch.setattr(sql, "rows", rows)
    execution.execute(step_run_ids=ids, worker="w@h/1")
    assert len(asked) == 4, "the claim, the items, what they share, the completion"
    monkeypatch.undo()
    assert sorted(
        StepOutput.objects.filter(step_run_id__in=ids).values_list("value", flat=True)
    ) == list(range(100, 108))
    assert run_id
