"""Rules that a hypothesis machine plays in any order: what may happen to a platform, and is told.

Every rule ends with the whole contract checked, so a failure names the one rule that broke it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine import dead_letters, lanes, leases, runs
from engine.errors import StateConflictError
from engine.models import DeadLetter, Run, StepRun
from engine.states import RUN_TERMINAL, RunState
from engine.transitions import runs as moves
from tests.model.graphs import DEPARTMENT, chain, graphs
from tests.model.script import GROUP, NOTHING, OUTLASTS, SLICE, Act, Script
from tests.model.world import DUE, EXPIRED, OVERDUE, World, execute

if TYPE_CHECKING:
    from tests.model.holders import Holder

MAX_RUNS = 5
WHICH = st.integers(0, 20)
#: Steps a message names at most.
SIZES = st.integers(1, 4)
TROUBLES = st.sampled_from(["fail", "give up", "die"])
OUTCOMES = st.one_of(st.just("succeed"), TROUBLES)
SECONDS = st.sampled_from([NOTHING, NOTHING, GROUP, SLICE])
GRAPHS = st.one_of(graphs(), graphs(), st.builds(chain, st.sampled_from(["pure", "book"])))
COMMITS = st.sampled_from([NOTHING, SLICE])
USUAL = st.builds(Act, seconds=SECONDS)
ACTS = st.builds(Act, outcome=OUTCOMES, seconds=SECONDS, beats=st.booleans())


class Platform(RuleBasedStateMachine):
    """Runs, messages, workers, operators and a manager; every interleaving is fair."""

    @initialize(
        first=GRAPHS,
        second=GRAPHS,
        limit=st.sampled_from([None, None, 1, 2]),
        writing=COMMITS,
        bodies=st.sampled_from([0, 1, 1, 2]),
        then=st.sampled_from(["goes on", "is lost", "is missed"]),
    )
    def begin(self, *, first, second, limit, writing, bodies, then) -> None:
        self.world = World()
        Script.writing = writing
        self.limit_lane(limit)
        #: Runs that somebody has ended early: one at most, so that there is something to watch.
        self.ended_early = 0
        self.world.submit(first)
        self.world.submit(second)
        if bodies:
            self._begin_midway(bodies, then)

    @precondition(lambda self: Run.objects.count() < MAX_RUNS)
    @rule(graph=GRAPHS, dies=st.booleans(), backed_up=st.booleans())
    def submit(self, graph, dies, backed_up) -> None:
        self.world.backed_up = backed_up
        with self.world.publishing_dies(dies):
            self.world.submit(graph)

    # Messages

    @rule(which=WHICH, count=st.integers(1, 3), size=SIZES)
    def deliver(self, which, count, size) -> None:
        """Messages come, in any order; their workers are at work from now on."""
        for _ in range(count):
            self._claim(which, size=size)

    @precondition(lambda self: self.world.messages)
    @rule(which=WHICH)
    def drop(self, which) -> None:
        self.world.messages.pop(which % len(self.world.messages))

    @precondition(lambda self: self.world.messages)
    @rule(which=WHICH)
    def duplicate(self, which) -> None:
        messages = self.world.messages
        messages.append(messages[which % len(messages)])

    @precondition(lambda self: len(self.world.messages) > 1)
    @rule()
    def reorder(self) -> None:
        self.world.messages.reverse()

    @rule(which=WHICH, size=SIZES)
    def ghost(self, which, size) -> None:
        """A message of long ago arrives, of any steps in any state."""
        ids = list(StepRun.objects.order_by("id").values_list("id", flat=True))
        self.world.claim(*{ids[(which + n) % len(ids)]: None for n in range(size)})

    @rule(noticed=st.booleans())
    def flush(self, noticed) -> None:
        self.world.messages.clear()
        if noticed:
            ((now,),) = execute("SELECT clock_timestamp()")
            self.world.seen["sent again"] += leases.broker_lost(sent_before=now)

    # Workers

    @rule(count=st.integers(1, 4), size=SIZES, usual=USUAL)
    def work(self, count, size, usual) -> None:
        """The everyday case, so that runs get far: messages come and their steps are run."""
        for _ in range(count):
            holder = self._claim(0, size=size)
            if holder is not None:
                self.world.run(holder, usual)

    @rule(outcome=TROUBLES, times=st.integers(1, 3))
    def go_wrong(self, outcome, times) -> None:
        """A step fails or ends its worker, perhaps until it is dead."""
        for _ in range(times):
            holder = self._claim(0)
            if holder is None:
                return
            (step,) = holder.held
            self.world.end(holder, Act(outcome))
            if outcome == "die":
                self._hint(holder)
            execute(DUE)
            self.world.tick()
            self.world.first(step.id)

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH, acts=st.lists(ACTS, min_size=1, max_size=3))
    def go_on(self, which, acts) -> None:
        """A holder, or a zombie, runs some of what it has; what it finished may not be written."""
        self.world.end(self._holder(which), *acts, bodies=len(acts))

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH)
    def outlast(self, which) -> None:
        """A body takes long: the heartbeat writes, hands back and shows it."""
        self.world.end(self._holder(which), Act("succeed", OUTLASTS, beats=True), bodies=1)

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH, dies=st.booleans())
    def write(self, which, dies) -> None:
        """Results are written together; the process may die before it has sent the successors."""
        holder = self._holder(which)
        with self.world.publishing_dies(dies):
            self.world.flush(holder)
        if dies:
            self.world.vanish(holder)

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH, acts=st.lists(ACTS, max_size=2), dies=st.booleans())
    def finish(self, which, acts, dies) -> None:
        """A claim is brought to its end, by its holder or by a zombie."""
        with self.world.publishing_dies(dies):
            self.world.end(self._holder(which), *acts)

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH, hinted=st.booleans())
    def crash(self, which, hinted) -> None:
        """The holder vanishes; its parent says so, or nobody does."""
        holder = self._holder(which)
        if hinted:
            self._hint(holder)
        else:
            self.world.vanish(holder)

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH)
    def renew(self, which) -> None:
        holder = self._holder(which)
        holds = bool(self.world.open_under(holder))
        assert (leases.renew(step=holder.held[0]) is not None) == holds

    @rule()
    def expire(self) -> None:
        """No lease was renewed for too long; the reaper has not been there yet."""
        execute(EXPIRED)

    @rule(which=WHICH, size=SIZES, acts=st.lists(ACTS, max_size=3))
    def come_back(self, which, size, acts) -> None:
        """A holder stalls until its claim is taken, and goes on as if nothing had been."""
        holder = self._lose(which, size)
        if holder is not None:
            self.world.end(holder, *acts)

    @rule(which=WHICH, size=SIZES, acts=st.tuples(ACTS, ACTS), zombie_first=st.booleans())
    def be_replaced(self, which, size, acts, zombie_first) -> None:
        """Two believe that they hold a step, of whom one does; both come to an end."""
        zombie = self._lose(which, size)
        if zombie is None:
            return
        execute(DUE)
        self.world.tick()
        holder = self.world.claim(zombie.held[which % len(zombie.held)].id)
        self.world.seen["two holders"] += holder is not None
        both = [zombie, holder] if zombie_first else [holder, zombie]
        for one, act in zip(both, acts, strict=True):
            if one is not None:
                self.world.end(one, act)

    # The manager and time

    @rule()
    def tick(self) -> None:
        self.world.tick()

    @rule()
    def find_lost(self) -> None:
        self.world.find_lost()

    @rule()
    def pass_time(self) -> None:
        execute(DUE)
        self.world.tick()

    @precondition(lambda self: not self.ended_early)
    @rule(which=WHICH)
    def pass_deadline(self, which) -> None:
        self.ended_early += 1
        execute(OVERDUE, self._run(which).pk)

    # Operators

    @precondition(lambda self: not self.ended_early)
    @rule(which=WHICH, dies=st.booleans())
    def cancel(self, which, dies) -> None:
        """Cancel; when the process dies, between turning the run and sweeping its steps."""
        self.ended_early += 1
        run = self._run(which)
        if dies:
            moves.begin_ending(run_id=run.pk, ending=RunState.CANCELLED, code="cancelled")
            moves.note(run_id=run.pk, kind="run.cancel_requested", actor="model")
        else:
            with suppress(StateConflictError):
                runs.cancel(run_id=run.pk, actor="model")
        run.refresh_from_db()
        if run.ending == RunState.CANCELLED:
            self.world.cancelled.add(run.pk)

    @rule(which=WHICH)
    def pause(self, which) -> None:
        with suppress(StateConflictError):
            runs.pause(run_id=self._run(which).pk, actor="model")
            self.world.seen["run paused"] += 1

    @rule(which=WHICH)
    def resume(self, which) -> None:
        with suppress(StateConflictError):
            runs.resume(run_id=self._run(which).pk, actor="model")

    @rule()
    def pause_lane(self) -> None:
        lanes.pause(slug=DEPARTMENT, actor="model")

    @rule()
    def resume_lane(self) -> None:
        lanes.resume(slug=DEPARTMENT)

    @rule(limit=st.sampled_from([None, 1, 2, 3]))
    def limit_lane(self, limit) -> None:
        lanes.limit(slug=DEPARTMENT, max_concurrency=limit)
        self.limit = limit
        self.allowed = self.world.in_flight()

    @precondition(lambda self: DeadLetter.objects.filter(state="open").exists())
    @rule(which=WHICH, discard=st.booleans())
    def answer(self, which, discard) -> None:
        letters = list(DeadLetter.objects.filter(state="open").order_by("id"))
        self._answer(letters[which % len(letters)], discard=discard)

    # What must hold after each of them

    @invariant()
    def contract_holds(self) -> None:
        self.world.check()

    @invariant()
    def limit_holds(self) -> None:
        """More than the limit may be in flight only from before it was set, and only less."""
        if self.limit is not None:
            in_flight = self.world.in_flight()
            assert in_flight <= max(self.limit, self.allowed)
            self.allowed = min(self.allowed, in_flight)

    @invariant()
    def cancelled_stays_cancelled(self) -> None:
        states = Run.objects.filter(pk__in=self.world.cancelled).values_list("state", flat=True)
        assert set(states) <= {RunState.CANCELLING, RunState.CANCELLED}

    def teardown(self) -> None:
        """Without further faults each run ends, or waits for an operator who has been asked."""
        if not hasattr(self, "world"):
            return
        self.world.settle()
        for run in Run.objects.all():
            letters = DeadLetter.objects.filter(run=run, state="open")
            assert run.state in RUN_TERMINAL or (run.state == "blocked" and letters.exists()), run
            self.world.seen[f"run {run.state}"] += 1
        # The operator answers, and nothing is asked any more.
        for letter in DeadLetter.objects.filter(state="open", run__state="blocked").order_by("id"):
            self._answer(letter, discard=letter.attempts == 1)
        self.world.settle()
        assert set(Run.objects.values_list("state", flat=True)) <= RUN_TERMINAL

    def _begin_midway(self, bodies: int, then: str) -> None:
        """Begin with a process that has some of its chunk written, and goes on with the rest."""
        holder = self._claim(0, size=4)
        if holder is None:
            return
        self.world.end(holder, bodies=bodies)
        if holder in self.world.held:
            self.world.flush(holder)
            if then == "is lost":
                self.world.vanish(holder)
            elif then == "is missed":
                self._hint(holder)

    def _claim(self, which: int, *, size: int = 1) -> Holder | None:
        """Deliver messages until one is good; the manager looks first when there is none."""
        if not self.world.messages:
            self.world.tick()
            self.world.find_lost()
            self.world.tick()
        while self.world.messages:
            holder = self.world.deliver(which, size=size)
            if holder is not None:
                return holder
        return None

    def _holder(self, which: int) -> Holder:
        return self.world.held[which % len(self.world.held)]

    def _hint(self, holder: Holder) -> None:
        """Let a process be gone, and its parent say so, with what its message had named."""
        ids = [step.id for step in holder.held]
        self.world.vanish(
            holder, how=lambda: leases.worker_lost(step_run_ids=ids, worker=holder.worker)
        )

    def _lose(self, which: int, size: int) -> Holder | None:
        """Let one of the holders stall until its claim is taken from it."""
        if not self.world.held:
            self._claim(which, size=size)
        if not self.world.held:
            return None
        holder = self._holder(which)
        execute(EXPIRED + " WHERE claim = %s", holder.claim)
        self.world.seen["reaped"] += self.world.vanish(holder, how=lambda: leases.reap(limit=100))
        self.world.held.append(holder)
        return holder

    def _run(self, which: int) -> Run:
        found = list(Run.objects.order_by("id"))
        return found[which % len(found)]

    def _answer(self, letter: DeadLetter, *, discard: bool) -> None:
        with suppress(StateConflictError):
            if discard:
                dead_letters.discard(dead_letter_id=letter.pk, actor="model")
            else:
                dead_letters.requeue(dead_letter_id=letter.pk, actor="model")
            self.world.seen["discarded" if discard else "requeued"] += 1
