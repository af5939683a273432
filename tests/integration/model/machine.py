"""The platform as a machine of small acts in any order, and what must hold after each of them.

The SQL is real and goes through the engine's own doors. The broker is a list, a worker is a claim
in this process: so messages can be dropped, doubled and reordered, and workers can vanish between
any two statements.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine import dead_letters, definitions, lanes, leases, outcomes, publishing, registry, runs
from engine.errors import StateConflictError, StepError
from engine.invariants import verification
from engine.policies import Retry
from engine.transitions import claims
from tests.integration.model import shapes

LANE = "lab"
TABLES = (
    "effect", "runevent", "outboxevent", "deadletter", "stepinput", "stepoutput", "lease",
    "artifact", "steprun", "run", "automationversion",
)  # fmt: skip
RETRY = Retry(attempts=2, first_delay=1.0)
ENDED_STEPS = {"succeeded", "failed", "dead", "cancelled", "skipped"}
ENDED_RUNS = {"succeeded", "failed", "cancelled", "timed_out"}
#: More turns than any run of these shapes can need: beyond them nothing moves any more.
TURNS = 300
picks = st.integers(0, 1000)


def rows(statement: str, *values) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


@dataclass(eq=False)
class Hand:
    """A worker process with one step in hand."""

    step: claims.Claimed
    items: int = 0


class Platform(RuleBasedStateMachine):
    """Runs, a broker that loses things, workers that die, an operator who changes his mind."""

    def __init__(self) -> None:
        super().__init__()
        for table in TABLES:
            rows(f"DELETE FROM engine_{table}")
        rows("DELETE FROM lab_ledger")
        runs._versions.clear()
        definitions.graph.cache_clear()
        lanes.declare(slug=LANE, queue=LANE)
        lanes.resume(slug=LANE)
        lanes.limit(slug=LANE, max_concurrency=None)
        publishing.register(self)
        self.messages: list[int] = []
        self.hands: list[Hand] = []
        #: Workers nobody hears of any more; some of them go on working all the same.
        self.ghosts: list[Hand] = []
        self.cancelled: set = set()
        self.ended_steps: dict[int, tuple] = {}
        self.ended_runs: dict = {}
        self.workers = 0

    def publish(self, steps) -> None:
        """Be the broker."""
        self.messages.extend(step.id for step in steps)

    # --- work comes in ----------------------------------------------------------------------
    @initialize(found=st.lists(shapes.graphs(), min_size=1, max_size=2))
    def begin(self, found) -> None:
        for graph in found:
            self.submit(graph, None)

    @rule(graph=shapes.graphs(), key=st.sampled_from([None, "a", "b"]))
    def submit(self, graph, key) -> None:
        registry.automations["lab.model"] = shapes.declared(graph)
        before = rows("SELECT count(*) FROM engine_run WHERE dedupe_key = %s", key)[0][0]
        found = runs.submit(automation="lab.model", input={}, trigger="api", dedupe_key=key)
        assert found.created == (before == 0)

    # --- the broker -------------------------------------------------------------------------
    @precondition(lambda self: self.messages)
    @rule(pick=picks, items=st.integers(0, 3), number=st.integers(1, 4))
    def deliver(self, pick, items, number) -> None:
        """Workers take messages, in any order, and find out what they may do."""
        for _ in range(min(number, len(self.messages))):
            step_id = self.messages.pop(pick % len(self.messages))
            self.workers += 1
            for step in leases.claim(step_run_ids=[step_id], worker=f"model/{self.workers}"):
                assert step.run_id not in self.cancelled, "claimed although its run was cancelled"
                self.hands.append(Hand(step, items))

    @precondition(lambda self: self.messages)
    @rule(pick=picks, how=st.sampled_from(["drop", "duplicate", "flush"]))
    def trouble_the_broker(self, pick, how) -> None:
        """Lose a message, or deliver one twice; or all of Redis is gone and a manager notices."""
        chosen = pick % len(self.messages)
        if how == "drop":
            self.messages.pop(chosen)
        elif how == "duplicate":
            self.messages.append(self.messages[chosen])
        else:
            self.messages.clear()
            (now,) = rows("SELECT clock_timestamp()")[0]
            leases.broker_lost(sent_before=now)

    # --- the workers ------------------------------------------------------------------------
    @precondition(lambda self: self.hands)
    @rule(pick=picks, writing=st.booleans())
    def finish(self, pick, writing) -> None:
        hand = self.hands.pop(pick % len(self.hands))
        assert self.complete(hand, writing=writing), "a live worker was refused"

    @precondition(lambda self: self.hands)
    @rule(pick=picks, permanent=st.booleans())
    def fail(self, pick, permanent) -> None:
        step = self.hands.pop(pick % len(self.hands)).step
        error = StepError("model", "It failed.", permanent=permanent)
        outcomes.fail(step, definitions.graph(step.version_id), RETRY, error)

    @precondition(lambda self: any(hand.step.run_id in self.cancelled for hand in self.hands))
    @rule(pick=picks)
    def stop_at_a_checkpoint(self, pick) -> None:
        asked = [hand for hand in self.hands if claims.held(step=hand.step)]
        if asked:
            hand = asked[pick % len(asked)]
            self.hands.remove(hand)
            assert outcomes.cancel(hand.step, "stopped at a checkpoint")

    @precondition(lambda self: self.hands)
    @rule(pick=picks, noticed=st.sampled_from(["", "lease", "hint"]))
    def vanish(self, pick, noticed) -> None:
        """A worker is gone or frozen; perhaps that is noticed at once."""
        self.ghosts.append(self.hands.pop(pick % len(self.hands)))
        if noticed:
            self.notice(-1, noticed)

    @precondition(lambda self: self.ghosts)
    @rule(pick=picks, how=st.sampled_from(["lease", "hint"]))
    def notice(self, pick, how) -> None:
        """The lease of a silent worker runs out, or its parent says that it is dead."""
        step = self.ghosts[pick if pick < 0 else pick % len(self.ghosts)].step
        if how == "hint":
            leases.worker_lost(step_run_ids=[step.id], worker=step.worker)
        else:
            rows("UPDATE engine_lease SET expires_at = '2000-01-01' WHERE claim = %s", step.claim)
            leases.reap(limit=10)

    @precondition(lambda self: self.ghosts)
    @rule(pick=picks, writing=st.booleans())
    def return_late(self, pick, writing) -> None:
        """A worker that was given up comes back with its result: it counts only if still held."""
        hand = self.ghosts.pop(pick % len(self.ghosts))
        held = claims.held(step=hand.step) is not None
        assert self.complete(hand, writing=writing) == held

    @precondition(lambda self: self.hands)
    @rule(pick=picks, writing=st.booleans())
    def overtake(self, pick, writing) -> None:
        """Another worker has the step already when the first one comes back with its result."""
        hand = self.hands[pick % len(self.hands)]
        self.vanish(pick=pick, noticed="lease")
        self.manage(lost=True)
        self.deliver(pick=0, items=1, number=len(self.messages))
        held = claims.held(step=hand.step) is not None
        self.ghosts.remove(hand)
        assert self.complete(hand, writing=writing) == held

    def complete(self, hand: Hand, *, writing: bool) -> bool:
        """Do what `engine.execution` does at the end of a body; return whether it counted."""
        step = hand.step
        following = definitions.graph(step.version_id).successors[step.key]
        if step.kind == "map":
            return self.expand(hand, following)
        with transaction.atomic():
            if writing:
                if claims.held(step=step, lock=True) is None:
                    return False
                rows(
                    "INSERT INTO lab_ledger VALUES (%s, %s, %s)",
                    step.run_id, step.key, step.map_index,
                )  # fmt: skip
            ready = claims.complete(
                step=step, value=1, ref=None, artifacts=[], warnings=[], successors=following
            )
        publishing.publish(ready or [])
        return ready is not None

    def expand(self, hand: Hand, following: list[str]) -> bool:
        step = hand.step
        items = [{"item": n} for n in range(hand.items)]
        ready = None
        with contextlib.suppress(NotOpenError), transaction.atomic():
            ready = claims.expand(step=step, queue=LANE, items=items, successors=following)
            if ready is None:
                raise NotOpenError
        if ready is not None:
            publishing.publish(ready)
            return True
        runs.finish_ending(run_id=step.run_id)
        return outcomes.cancel(step, "the run is being ended")

    # --- the manager ------------------------------------------------------------------------
    @rule(lost=st.booleans())
    def manage(self, lost) -> None:
        """Do once what its loops do; perhaps enough time has passed for messages to be missed."""
        rows("UPDATE engine_steprun SET next_at = '2000-01-01' WHERE state = 'retry_wait'")
        leases.wake_retries(limit=100)
        if lost:
            sent = rows("SELECT id FROM engine_steprun WHERE state = 'queued' AND claim IS NULL")
            missing = [found for (found,) in sent if found not in self.messages]
            leases.hand_back(step_run_ids=missing, reason="message_lost")
        for lane in lanes.with_ready():
            lanes.dispatch(lane=lane, limit=100, send=self.publish)
        runs.expire_deadlines(limit=100)
        runs.finish_cancelling(limit=100)
        leases.reap(limit=100)

    # --- the operator -----------------------------------------------------------------------
    @rule(pick=picks, what=st.sampled_from(["cancel", "pause", "resume", "deadline"]))
    def steer_a_run(self, pick, what) -> None:
        run = self.any_run(pick)
        with contextlib.suppress(StateConflictError):
            if what == "cancel":
                runs.cancel(run_id=run, actor="model")
                self.cancelled.add(run)
            elif what == "pause":
                runs.pause(run_id=run, actor="model")
            elif what == "resume":
                runs.resume(run_id=run, actor="model")
            else:
                rows("UPDATE engine_run SET deadline_at = '2000-01-01' WHERE id = %s", run)

    @rule(paused=st.sampled_from([False, False, True]), limit=st.sampled_from([None, 1, 2]))
    def set_the_lane(self, paused, limit) -> None:
        lanes.limit(slug=LANE, max_concurrency=limit)
        if paused:
            lanes.pause(slug=LANE, actor="model")
        else:
            lanes.resume(slug=LANE)

    @precondition(lambda self: self.letters())
    @rule(pick=picks, again=st.booleans())
    def answer_a_letter(self, pick, again) -> None:
        letters = self.letters()
        answer = dead_letters.requeue if again else dead_letters.discard
        with contextlib.suppress(StateConflictError):
            answer(dead_letter_id=letters[pick % len(letters)], actor="model")

    @staticmethod
    def letters() -> list[int]:
        found = rows("SELECT id FROM engine_deadletter WHERE state = 'open' ORDER BY id")
        return [letter for (letter,) in found]

    def any_run(self, pick: int):
        found = rows("SELECT id FROM engine_run ORDER BY id")
        return found[pick % len(found)][0]

    # --- what must hold ---------------------------------------------------------------------
    @invariant()
    def contract_holds(self) -> None:
        with transaction.atomic():
            report = verification.judge()
        assert report.clean, [(v.check.name, v.step_run_id, v.what) for v in report.violations]

    @invariant()
    def what_has_ended_stays_so(self) -> None:
        """Only an operator's requeue moves it, and that is a new generation."""
        found = rows(
            "SELECT s.id, s.state, r.generation FROM engine_steprun s"
            " JOIN engine_run r ON r.id = s.run_id"
        )
        self.ended_steps = self.unmoved(self.ended_steps, found, ENDED_STEPS)
        found = rows("SELECT id, state, generation FROM engine_run")
        self.ended_runs = self.unmoved(self.ended_runs, found, ENDED_RUNS)

    @staticmethod
    def unmoved(before: dict, now: list[tuple], ended: set[str]) -> dict:
        for key, state, generation in now:
            was = before.get(key)
            assert was is None or was[0] == state or was[1] < generation, (key, was, state)
        return {key: (state, generation) for key, state, generation in now if state in ended}

    # --- and in the end ---------------------------------------------------------------------
    def teardown(self) -> None:
        """No more faults: everything accepted comes to its end."""
        lanes.resume(slug=LANE)
        lanes.limit(slug=LANE, max_concurrency=None)
        for (run,) in rows("SELECT id FROM engine_run WHERE state = 'paused'"):
            runs.resume(run_id=run, actor="model")
        self.ghosts += self.hands
        self.hands = []
        rows("UPDATE engine_lease SET expires_at = '2000-01-01'")
        for _ in range(TURNS):
            self.manage(lost=True)
            while self.messages:
                self.deliver(pick=0, items=2, number=1)
                while self.hands:
                    self.finish(pick=0, writing=True)
            open_runs = self.open_runs()
            if not open_runs:
                break
            if self.letters() and all(state == "blocked" for _, state in open_runs):
                self.answer_a_letter(pick=0, again=True)
        assert self.open_runs() == [], "neither ended nor waiting for anything"
        self.contract_holds()
        self.what_has_ended_stays_so()
        for hand in self.ghosts:
            assert not self.complete(hand, writing=True), "a late result counted"
        doubled = rows(
            "SELECT run_id, step, map_index FROM lab_ledger GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        assert doubled == []

    @staticmethod
    def open_runs() -> list[tuple]:
        return rows(
            "SELECT id, state FROM engine_run"
            " WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'timed_out')"
        )


class NotOpenError(Exception):
    """Roll an expansion back, as `engine.execution` does."""
