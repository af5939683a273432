"""Corners a review found: races by real locks, steps that go wrong in unusual ways, odd graphs."""

from __future__ import annotations

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection, connections, transaction
from pydantic import BaseModel, Field

from engine import (
    dead_letters,
    definitions,
    execution,
    heartbeat,
    lanes,
    leases,
    ports,
    registry,
    runs,
    selectors,
    sql,
)
from engine.authoring import Retry, StepError
from engine.errors import GraphInvalidError, InputInvalidError, StateConflictError
from engine.models import DeadLetter, Lease, Run, StepRun
from engine.policies import Limits
from engine.transitions import failures
from engine.transitions import runs as moves
from tests.catalog.lab import _dsn, note_in_ledger
from tests.declared import declared
from tests.eventually import eventually
from tests.held import complete
from tests.integration.engine.test_runs import settle, start, state, states


class Aliased(BaseModel):
    """A model that is spelled otherwise outside."""

    total_sum: int = Field(alias="totalSum")


@contextmanager
def held(statement, *parameters):
    """Hold the locks of a statement in another session meanwhile."""
    with psycopg.connect(_dsn()) as other:
        other.execute(statement, parameters)
        yield
        other.rollback()


@contextmanager
def beside():
    """Run actions in another thread meanwhile; leaves when they have ended."""

    def closing(action):
        try:
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        yield lambda action: pool.submit(closing, action)


def somebody_waits() -> bool:
    # From a session of its own: within a transaction the view does not change.
    with psycopg.connect(_dsn(), autocommit=True) as other:
        found = other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        return found.fetchone()[0] > 0


LOCK_STEP = "SELECT 1 FROM engine_steprun WHERE id = %s FOR NO KEY UPDATE"


@pytest.fixture
def two_letters(line, shop):
    """Two branches that are both dead, of automations that block and that fail."""

    def sad(ctx, flag: str) -> str:
        raise StepError("sad", "It is.", permanent=True)

    def after(ctx, left: str, right: str) -> str:
        return left + right

    left, right = shop("left", sad), shop("right", sad)
    both = shop("both", after)

    def graph(inp):
        return both(left=left(flag=inp.flag), right=right(flag=inp.flag))

    declared("two_block", graph)
    declared("two_fail", graph, on_dead="fail")
    return line


# --- races -----------------------------------------------------------------------------------


def test_pause__that_overtakes_a_claim_leaves_no_run_pending_for_ever(line, shop):
    one = shop("one", lambda ctx: 1)
    declared("single", lambda inp: one())
    run_id = start("lab.single")
    (message,) = line.messages
    with beside() as run, held(LOCK_STEP, message.id):
        claimed = run(lambda: leases.claim(step_run_ids=[message.id], worker="w/1"))
        eventually(somebody_waits, within=5)
        moves.pause(run_id=run_id)
    (step_run,) = claimed.result()
    moves.resume(run_id=run_id)
    complete(step_run)
    assert state(run_id) == "succeeded"


def test_resume__beside_a_death_is_blocked_and_not_running(line, shop):
    one = shop("one", lambda ctx: 1)
    declared("single", lambda inp: one())
    run_id = start("lab.single")
    (found,) = leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    runs.pause(run_id=run_id, actor="ann")
    with beside() as run, transaction.atomic():
        failures.bury(
            step_run_id=found.id, claim=found.claim, code="x", message="y", fail_run=False
        )
        run(lambda: runs.resume(run_id=run_id, actor="ann"))
        eventually(somebody_waits, within=5)
    assert state(run_id) == "blocked"


def test_requeue__of_a_run_that_is_cancelled_meanwhile_is_refused(two_letters):
    run_id = start("lab.two_block")
    two_letters.deliver()
    letter = DeadLetter.objects.get(step="left")
    with beside() as run, held(LOCK_STEP, letter.step_run_id):
        requeued = run(lambda: dead_letters.requeue(dead_letter_id=letter.pk, actor="ann"))
        eventually(somebody_waits, within=5)
        runs.cancel(run_id=run_id, actor="bob")
        assert state(run_id) == "cancelled"
    assert states(run_id)["left"] == "dead"
    assert isinstance(requeued.exception(), StateConflictError)


def test_requeue__of_a_run_that_fails_meanwhile_leaves_nothing_behind(two_letters):
    run_id = start("lab.two_block")
    two_letters.deliver()
    letter = DeadLetter.objects.get(step="left")
    other = DeadLetter.objects.get(step="right")
    with beside() as run, held(LOCK_STEP, letter.step_run_id):
        requeued = run(lambda: dead_letters.requeue(dead_letter_id=letter.pk, actor="ann"))
        eventually(somebody_waits, within=5)
        dead_letters.discard(dead_letter_id=other.pk, actor="bob")
        assert state(run_id) == "failed"
    assert isinstance(requeued.exception(), StateConflictError)
    assert state(run_id) == "failed"


# --- two letters -----------------------------------------------------------------------------


def test_requeue__one_of_two_letters_of_a_blocked_run(two_letters):
    run_id = start("lab.two_block")
    two_letters.deliver()
    assert state(run_id) == "blocked"
    dead_letters.requeue(dead_letter_id=DeadLetter.objects.get(step="left").pk, actor="ann")
    assert state(run_id) == "blocked"
    assert states(run_id) == {"left": "ready", "right": "dead", "both": "waiting"}


def test_requeue__one_of_two_letters_of_a_failed_run(two_letters):
    run_id = start("lab.two_fail")
    for message in two_letters.messages:
        leases.claim(step_run_ids=[message.id], worker="w/1")
    for row in StepRun.objects.filter(run_id=run_id, state="running"):
        failures.bury(step_run_id=row.pk, claim=row.claim, code="x", message="y", fail_run=True)
    runs.finish_cancelling(limit=10)
    assert state(run_id) == "failed"
    dead_letters.requeue(dead_letter_id=DeadLetter.objects.get(step="left").pk, actor="ann")
    assert state(run_id) == "blocked"
    assert states(run_id) == {"left": "ready", "right": "dead", "both": "waiting"}


def test_requeue__beside_a_step_that_was_given_up_is_refused(two_letters):
    run_id = start("lab.two_block")
    two_letters.deliver()
    dead_letters.discard(dead_letter_id=DeadLetter.objects.get(step="left").pk, actor="ann")
    settle(two_letters, run_id, "failed")
    with pytest.raises(StateConflictError):
        dead_letters.requeue(dead_letter_id=DeadLetter.objects.get(step="right").pk, actor="ann")
    assert state(run_id) == "failed"


# --- cancel ----------------------------------------------------------------------------------


def test_cancel__between_its_two_halves_a_planner_ends_at_once(line):
    run_id = start("lab.squares", count=2)
    execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    (planner,) = leases.claim(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    moves.begin_ending(run_id=run_id, ending="cancelled", code="cancelled")
    execution.run([planner])
    assert states(run_id) == {"numbers": "succeeded", "square": "cancelled", "total": "cancelled"}
    assert state(run_id) == "cancelled"


def test_cancel__asks_a_running_step_once_and_does_not_rewrite_its_row(line):
    run_id = start("lab.squares", count=2)
    leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    runs.cancel(run_id=run_id, actor="ann")

    def version():
        with connection.cursor() as cursor:
            cursor.execute("SELECT xmin::text FROM engine_steprun WHERE state = 'running'")
            return cursor.fetchone()

    before = version()
    runs.finish_cancelling(limit=10)
    assert version() == before


# --- heartbeat -------------------------------------------------------------------------------


def test_heartbeat__a_step_that_lost_its_claim_is_still_ended_by_its_timeout(line):
    start("lab.squares", count=2)
    (found,) = leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    ended, verdicts = [], []
    heart = heartbeat.Heartbeat()
    heart.end_process = lambda: ended.append(1)
    watch = heartbeat.Watch(
        step=found,
        limits=Limits(retry=Retry(), timeout=0.01),
        on_outlast=lambda: True,
        on_standstill=lambda: None,
        on_timeout=lambda: verdicts.append(1),
        on_hard_cancel=lambda: verdicts.append(2),
    )
    Lease.objects.all().delete()
    watch.next_beat = 0.0
    time.sleep(0.02)
    heart._beat(watch)
    heart._beat(watch)
    assert watch.lost
    assert ended
    assert verdicts == []


# --- steps that go wrong ---------------------------------------------------------------------


def test_transaction__an_error_its_step_swallows_rolls_back(line, ledger, shop):
    def swallows(ctx) -> str:
        try:
            with ctx.transaction():
                note_in_ledger(ctx)
                raise ValueError("no")  # noqa: TRY301 - the error that is swallowed
        except ValueError:
            return "went on"

    swallower = shop("swallower", swallows)
    declared("swallows", lambda inp: swallower())
    run_id = start("lab.swallows")
    line.deliver()
    assert state(run_id) == "succeeded"
    assert ledger() == []


def test_transaction__is_not_left_open_by_a_step_that_exits(line, ledger, shop):
    def exits(ctx) -> str:
        with ctx.transaction():
            note_in_ledger(ctx)
            raise SystemExit(1)

    leaver = shop("leaver", exits)
    declared("exits", lambda inp: leaver())
    start("lab.exits")
    with pytest.raises(SystemExit):
        line.deliver()
    assert not connection.in_atomic_block
    assert ledger() == []


def test_checkpoint__while_the_database_is_away_lets_the_step_go_on(line, shop):
    def endures(ctx) -> int:
        with psycopg.connect(_dsn(), autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ctx._asked_at = 0.0
        ctx.checkpoint()
        return ctx.attempt

    survivor = shop("survivor", endures)
    declared("endures", lambda inp: survivor())
    run_id = start("lab.endures")
    line.deliver()
    assert selectors.output(run_id=run_id) == 1


def test_outage__is_no_matter_of_the_row_at_hand(line, monkeypatch):
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "HOST", "/nowhere")
        with pytest.raises(sql.CONNECTION_ERRORS):
            runs.finish_ending(run_id=uuid.uuid4())
    connection.close()


@pytest.mark.parametrize("text", [r"a \u0000 b", r"\\u0000", "\\"])
def test_text__that_only_looks_like_nul_is_kept(line, shop, text):
    def says(ctx) -> str:
        ctx.warn("said", text)
        return text

    sayer = shop("sayer", says)
    declared("says", lambda inp: sayer())
    run_id = start("lab.says")
    line.deliver()
    assert selectors.output(run_id=run_id) == text
    assert selectors.events(run_id=run_id, limit=50)[-3].data["message"] == text


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_result__that_is_not_finite_is_refused_and_not_turned_into_nothing(line, shop, number):
    def counts(ctx) -> list[float]:
        return [1.0, number]

    counter = shop("counter", counts)
    declared("counts", lambda inp: counter())
    run_id = start("lab.counts")
    line.deliver()
    assert DeadLetter.objects.get(run_id=run_id).error_code == "result_invalid"


def test_argument__a_model_with_an_alias_travels(line, shop):
    def makes(ctx) -> Aliased:
        return Aliased(totalSum=3)

    def takes(ctx, made: Aliased) -> int:
        return made.total_sum

    maker, taker = shop("maker", makes), shop("taker", takes)
    declared("alias", lambda inp: taker(made=maker()))
    run_id = start("lab.alias")
    line.deliver()
    assert selectors.output(run_id=run_id) == 3


@pytest.mark.parametrize("depth", [300, 990, 5000])
def test_submit__refuses_an_input_that_is_nested_too_deeply(line, depth):
    deep: object = 1
    for _ in range(depth):
        deep = [deep]
    with pytest.raises(InputInvalidError):
        start("lab.odd", anything=deep)
    assert not Run.objects.exists()


# --- pause and deadline ------------------------------------------------------------------------


def test_pause__while_the_last_step_runs_lets_the_run_end(line, shop):
    one = shop("one", lambda ctx: 1)
    declared("single", lambda inp: one())
    run_id = start("lab.single")
    (found,) = leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    runs.pause(run_id=run_id, actor="ann")
    complete(found)
    assert state(run_id) == "succeeded"
    with pytest.raises(StateConflictError):
        runs.resume(run_id=run_id, actor="ann")


def test_deadline__ends_a_paused_and_a_blocked_run(two_letters):
    blocked, paused = start("lab.two_block"), start("lab.squares", count=2)
    two_letters.messages = [m for m in two_letters.messages if m.id in ids_of(blocked)]
    two_letters.deliver()
    runs.pause(run_id=paused, actor="ann")
    assert (state(blocked), state(paused)) == ("blocked", "paused")
    Run.objects.update(deadline_at="2000-01-01T00:00:00Z")
    assert runs.expire_deadlines(limit=10) == 2
    assert (state(blocked), state(paused)) == ("timed_out", "timed_out")
    letter = DeadLetter.objects.first()
    with pytest.raises(StateConflictError):
        dead_letters.requeue(dead_letter_id=letter.pk, actor="ann")
    dead_letters.discard(dead_letter_id=letter.pk, actor="ann")
    assert state(blocked) == "timed_out"


def test_cancel__during_the_backoff_ends_at_once(line, shop):
    def sad(ctx) -> str:
        raise StepError("sad", "It is.")

    one = shop("one", sad, retry=Retry(attempts=3, first_delay=60))
    declared("single", lambda inp: one())
    run_id = start("lab.single")
    line.deliver()
    assert states(run_id) == {"one": "retry_wait"}
    runs.cancel(run_id=run_id, actor="ann")
    assert (state(run_id), states(run_id)) == ("cancelled", {"one": "cancelled"})


def ids_of(run_id):
    return set(StepRun.objects.filter(run_id=run_id).values_list("pk", flat=True))


# --- graphs ----------------------------------------------------------------------------------


def test_map__an_item_reads_its_own_item_and_not_the_whole_list(line):
    start("lab.squares", count=50)
    for _ in range(2):
        execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    (item,) = leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    graph = definitions.graph(item.version_id)
    outputs, found = ports._outputs(item, graph.by_key["square"], ports.Known())
    assert found == {"number": item.map_index}
    assert not outputs.get("numbers")


def test_lane__a_late_message_does_not_pass_its_limit(line, shop):
    one = shop("one", lambda ctx: 1)
    declared("single", lambda inp: one())
    lanes.limit(slug="lab", max_concurrency=1)
    for _ in range(2):
        start("lab.single")
    line.manage()
    (first,) = line.messages
    leases.hand_back(step_run_ids=[first.id], reason="message_lost")
    StepRun.objects.filter(pk=first.id).update(ready_at="2999-01-01T00:00:00Z")
    line.messages.clear()
    line.manage()
    (second,) = line.messages
    claimed = [leases.claim(step_run_ids=[message.id], worker="w/1") for message in (first, second)]
    assert [len(found) for found in claimed] == [0, 1]


def words_of(ctx, words: list[str]) -> list[str]:
    return words


def loud(ctx, word: str) -> str:
    return word.upper()


def glue(ctx, parts: list[str]) -> str:
    return "".join(parts)


def pair(ctx, left: str, right: str) -> str:
    return left + right


@pytest.mark.parametrize("words", [[], ["a"], ["a", "b", "c"]])
def test_graphs__of_every_shape_end_with_the_right_output(line, shop, words):
    read, shout = shop("read", words_of), shop("shout", loud)
    join, both = shop("join", glue), shop("both", pair)

    def sink(inp):
        return shout.map(word=read(words=inp.words))

    def from_input(inp):
        return shout.map(word=inp.words)

    def constants(inp):
        return join(parts=shout.map(word=["x", "y"]))

    def empty_constant(inp):
        return shout.map(word=[])

    def nested(inp):
        return join(parts=shout.map(word=shout.map(word=read(words=inp.words))))

    def two_maps(inp):
        found = read(words=inp.words)
        return both(left=join(parts=shout.map(word=found)), right=join(parts=shout.map(word=found)))

    def diamond(inp):
        found = read(words=inp.words)
        glued = join(parts=found)
        return both(left=join(parts=shout.map(word=found)), right=glued)

    def lonely(inp):
        shout.map(word=inp.words)
        return join(parts=inp.words)

    upper, plain = "".join(words).upper(), "".join(words)
    wanted = {
        sink: list(upper),
        from_input: list(upper),
        constants: "XY",
        empty_constant: [],
        nested: upper,
        two_maps: upper * 2,
        diamond: upper + plain,
        lonely: plain,
    }
    for function, output in wanted.items():
        name = f"shape_{function.__name__}"
        declared(name, function)
        run_id = start(f"lab.{name}", words=words)
        line.deliver()
        assert (state(run_id), selectors.output(run_id=run_id)) == ("succeeded", output), name
        assert not StepRun.objects.filter(run_id=run_id).exclude(pending=0).exists()


def test_requeue__in_a_failed_run_with_mapped_items_keeps_the_good_ones(line, shop, tmp_path):
    def picky(ctx, word: str, flag: str) -> str:
        if word == "b" and not os.path.exists(flag):  # noqa: PTH110
            raise StepError("picky", "Not b.", permanent=True)
        return word

    choose, join = shop("choose", picky), shop("join", glue)
    declared(
        "picky",
        lambda inp: join(parts=choose.partial(flag=inp.flag).map(word=inp.words)),
        on_dead="fail",
    )
    flag = tmp_path / "mended"
    run_id = start("lab.picky", words=["a", "b", "c", "d"], flag=str(flag))
    line.deliver()
    settle(line, run_id, "failed")
    flag.touch()
    dead_letters.requeue(dead_letter_id=DeadLetter.objects.get().pk, actor="ann")
    settle(line, run_id, "succeeded")
    assert selectors.output(run_id=run_id) == "abcd"


# --- authoring -------------------------------------------------------------------------------


async def awaited(ctx) -> int:
    return 1


def yielded(ctx):
    yield 1


async def both_of(ctx):
    yield 1


def starred(ctx, *numbers: int) -> int:
    return 1


def double_starred(ctx, **numbers: int) -> int:
    return 1


def by_position(ctx, number: int, /) -> int:
    return number


def keyword_ctx(*, ctx) -> int:
    return 1


@pytest.mark.parametrize(
    "function",
    [awaited, yielded, both_of, starred, double_starred, by_position, keyword_ctx],
    ids=lambda function: function.__name__,
)
def test_step__that_could_never_be_called_is_refused_at_import(shop, function):
    with pytest.raises(GraphInvalidError, match="test_review"):
        shop(function.__name__, function)


@pytest.mark.parametrize(
    "use",
    [
        lambda inp: f"for {inp.flag}",
        lambda inp: str(inp.flag),
        lambda inp: "yes" if inp.flag == "a" else "no",
        lambda inp: "yes" if inp.flag != "a" else "no",
        lambda inp: "yes" if inp.flag in ("a", "b") else "no",
    ],
    ids=["f-string", "str", "equal", "unequal", "in"],
)
def test_automation__that_decides_on_a_value_of_the_future_is_refused(shop, use):
    shout = shop("shout", loud)
    with pytest.raises(GraphInvalidError, match="test_review"):
        declared("decides", lambda inp: shout(word=use(inp)))


def test_map__over_what_is_also_given_to_all_items_is_refused(shop):
    shout = shop("shout", loud)
    with pytest.raises(GraphInvalidError, match="word"):
        declared("twice", lambda inp: shout.partial(word="x").map(word=inp.words))


def test_automation__reckons_its_identity_once_and_not_at_every_submission():
    found = registry.automation("lab.squares")
    assert found.checksum is found.checksum
