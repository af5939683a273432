"""The world around the engine as the model plays it: a broker that is a list, workers, time.

Everything that changes a row goes through the engine's own doors, on real SQL; only the moments in
the rows (a lease, a backoff, a deadline) are moved into the past instead of being waited for.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import connection

from engine import durations, lanes, leases, publishing, registry, runs, sql
from engine.invariants import surveys, verification
from engine.models import Lane, Run, StepRun
from engine.states import RUN_CLAIMABLE
from tests.model import graphs
from tests.model.graphs import DEPARTMENT
from tests.model.holders import Holder
from tests.model.script import Act, seen

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 1000
#: Children before parents.
TABLES = [
    "engine_effect",
    "engine_outboxevent",
    "engine_runevent",
    "engine_deadletter",
    "engine_lease",
    "engine_stepinput",
    "engine_stepoutput",
    "engine_steprun",
    "engine_run",
    "engine_automationversion",
    "engine_lane",
    "model_ledger",
]
DIGEST = " UNION ALL ".join(
    f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t" for table in TABLES
)
#: All but the constraints, which no rule drops, and the schedules, which this model has not.
OF_THE_ENGINE = {
    "runs",
    "steps",
    "maps",
    "leases",
    "step_histories",
    "run_histories",
    "cancels",
    "effects",
}
EXPIRED = "UPDATE engine_lease SET expires_at = now() - interval '1 hour'"
DUE = "UPDATE engine_steprun SET next_at = now() - interval '1 hour' WHERE state = 'retry_wait'"
OVERDUE = "UPDATE engine_run SET deadline_at = now() - interval '1 hour' WHERE id = %s"
# What is seen to be running is alone under its claim: it is what a lost worker is blamed on.
NOT_ALONE = """
SELECT claim FROM engine_steprun WHERE state IN ('queued', 'running') AND claim IS NOT NULL
GROUP BY claim HAVING bool_or(state = 'running') AND count(*) > 1
"""
MISBOOKED = """
SELECT b.run_id, b.step, b.map_index, b.n, s.state FROM (
    SELECT run_id, step, map_index, count(*) AS n FROM model_ledger GROUP BY 1, 2, 3) b
FULL JOIN (SELECT s.* FROM engine_steprun s JOIN engine_run r ON r.id = s.run_id
    JOIN engine_automationversion v ON v.id = r.version_id
    CROSS JOIN jsonb_array_elements(v.graph -> 'nodes') AS node
    WHERE node ->> 'key' = s.key AND node ->> 'step' = 'model.book'
      AND s.kind = 'step' AND s.state = 'succeeded') s
ON s.run_id = b.run_id AND s.key = b.step AND s.map_index = b.map_index
WHERE b.n IS DISTINCT FROM 1 OR s.id IS NULL
"""


def in_one_statement() -> str:
    """Return every survey of the engine as one query: one round trip a rule, planned once."""
    wanted = [survey for survey in surveys.surveys.values() if survey.name in OF_THE_ENGINE]
    assert len(wanted) == len(OF_THE_ENGINE)
    return " UNION ALL ".join(f"({survey.statement})" for survey in wanted)


def execute(statement: str, *values: object) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


ALL_SURVEYS = in_one_statement()


class World:
    """Broker, workers and manager, with what they believe."""

    seen = seen

    def __init__(self) -> None:
        # Planned once for all examples, and never compiled: the tables are small.
        execute("SET plan_cache_mode = force_generic_plan; SET jit = off")
        execute("; ".join(f"DELETE FROM {table}" for table in TABLES))
        runs._forget_versions()
        durations._seconds.clear()
        self.messages: list[publishing.ReadyStep] = []
        #: Processes that have not ended what they claimed, and may still try to, however late.
        self.held: list[Holder] = []
        self.cancelled: set = set()
        self.deaf = False
        #: Whether so much waits that the manager sends what is new.
        self.backed_up = False
        publishing.register(self)
        lanes.declare(slug=DEPARTMENT, queue=DEPARTMENT)

    def publish(self, steps, **_how) -> None:
        if not self.deaf:
            self.messages.extend(steps)

    def is_backed_up(self, queue) -> bool:  # noqa: ARG002 - a protocol's signature
        return self.backed_up

    @contextmanager
    def publishing_dies(self, dies: bool):
        """The process dies after its commit and before it has published, if it `dies`."""
        self.deaf = dies
        try:
            yield
        finally:
            self.deaf = False

    def submit(self, graph) -> None:
        declared = graphs.automation(graph)
        registry.automations[declared.name] = declared
        runs.submit(automation=declared.name, input={}, trigger="command")
        self.plans = {"limit": 3, **verification._plans()}
        self.seen["submitted"] += 1

    def claim(self, *step_run_ids: int, queue: str = "") -> Holder | None:
        """Deliver a message; what may not begin must not be claimed, and everything else is."""
        several = len(step_run_ids) > 1
        rows = StepRun.objects.select_related("run").in_bulk(step_run_ids)
        may_begin = [n for n in step_run_ids if self._may_begin(rows[n], several=several)]
        found = leases.claim(step_run_ids=step_run_ids, worker=Holder.name())
        assert [one.id for one in found] == may_begin, f"{rows}: {found}"
        self.seen["message refused"] += len(rows) - len(found)
        self.seen["left out, alone"] += sum(several and row.alone for row in rows.values())
        if not found:
            return None
        self.seen["claimed"] += len(found)
        self.seen["chunk claimed"] += len(found) > 1
        self.seen["alone"] += sum(rows[one.id].alone for one in found)
        holder = Holder(found, queue=queue or found[0].queue)
        self.held.append(holder)
        return holder

    def _may_begin(self, row: StepRun, *, several: bool) -> bool:
        lane = Lane.objects.get(pk=DEPARTMENT)
        return (
            row.state in {"ready", "queued"}
            and row.claim is None
            and row.run.state in RUN_CLAIMABLE
            and row.run_id not in self.cancelled
            and not lane.paused
            and not (lane.max_concurrency is not None and row.state == "ready")
            and not (several and row.alone)
        )

    def end(self, holder: Holder, *acts: Act, bodies: int = 1000) -> None:
        """Let a process go on with what it once claimed; what it lost it must not write."""
        with self._watched(holder):
            how = holder.play(acts, bodies=bodies)
            if how != "goes on":
                self.held.remove(holder)
            if how == "done":
                assert not self.open_under(holder), "nobody will go on with what is left"
        self.seen[f"process {how}"] += 1

    def run(self, holder: Holder, usual: Act | None = None) -> None:
        """Let a process run everything it holds in one go."""
        with self._watched(holder):
            self.held.remove(holder)
            holder.run(usual or Act())
            assert not self.open_under(holder), "nobody will go on with what is left"

    def flush(self, holder: Holder) -> None:
        """Let a process write what it has finished, as the heartbeat's thread may at any time."""
        with self._watched(holder):
            holder.batch.flush()

    @contextmanager
    def _watched(self, holder: Holder):
        """Hold a process that has lost its claim to writing nothing, byte by byte."""
        lost = not self.open_under(holder)
        before = self.digest() if lost else None
        had = len(holder.batch.open_ids())
        yield
        if lost:
            assert self.digest() == before, "a zombie has written"
            self.seen["zombie refused"] += had > 0
            self.seen["chunk zombie refused"] += had > 1

    def open_under(self, holder: Holder) -> list[int]:
        """Return what a process holds, as the database sees it."""
        found = StepRun.objects.filter(claim=holder.claim, state__in=["queued", "running"])
        return sorted(found.values_list("id", flat=True))

    def vanish(self, holder: Holder, *, how: Callable[[], int] | None = None) -> int:
        """Let a process be gone; `how` somebody finds out, who must blame the right one."""
        if holder in self.held:
            self.held.remove(holder)
        ids = self.open_under(holder)
        before = StepRun.objects.in_bulk(ids)
        joined = set(ids) - {step.id for step in holder.held}
        self.seen["chunk lost, with successors"] += len(ids) > 1 and bool(joined)
        if how is None:
            self.seen["chunk lost"] += len(ids) > 1
            return 0
        ended = how()
        for row in StepRun.objects.filter(pk__in=ids):
            was = before[row.pk]
            blamed = was.state == "running" and not was.cancel_requested
            assert row.claim is None
            assert row.crashes == was.crashes + blamed, "only what ran alone is blamed"
            assert row.alone == (was.alone or was.state == "queued"), "the others run alone"
        self.seen["chunk lost"] += len(ids) > 1
        self.seen["chunk lost, found"] += len(ids) > 1
        return ended

    def deliver(self, which: int, *, size: int) -> Holder | None:
        """Deliver one message of up to so many steps of one queue; who runs alone comes alone."""
        first = self.messages.pop(which % len(self.messages))
        ids = {first.id: None}
        if not first.alone:
            for other in list(self.messages):
                if len(ids) < size and other.queue == first.queue and not other.alone:
                    self.messages.remove(other)
                    ids[other.id] = None
        return self.claim(*ids, queue=first.queue)

    def first(self, step_run_id: int) -> None:
        """Let the message of this step come next, if there is one."""
        self.messages.sort(key=lambda message: message.id != step_run_id)

    def digest(self) -> list[tuple]:
        return execute(DIGEST)

    def in_flight(self) -> int:
        return StepRun.objects.filter(state__in=["queued", "running"]).count()

    def tick(self) -> None:
        """Do what the manager's loops do in a turn, each once."""
        self.seen["woken"] += leases.wake_retries(limit=MANY)
        runs.expire_deadlines(limit=MANY)
        runs.finish_cancelling(limit=MANY)
        self.seen["reaped"] += leases.reap(limit=MANY)
        for lane in lanes.with_ready():
            lanes.dispatch(lane=lane, limit=MANY, send=self.publish)

    def find_lost(self) -> None:
        """Hand back what no message names, as the manager does after its patience."""
        named = {message.id for message in self.messages}
        overdue = leases.queued_too_long(older_than_seconds=0.0)
        lost = [found for ids in overdue.values() for found in ids if found not in named]
        if lost:
            self.seen["lost message found"] += leases.hand_back(
                step_run_ids=lost, reason="message_lost"
            )

    def check(self) -> None:
        """Hold the database to the contract, and the ledger to exactly once."""
        self.seen["judged"] += 1
        if sql.rows(ALL_SURVEYS, self.plans) or execute(MISBOOKED) or execute(NOT_ALONE):
            broken = [
                (v.check.name, v.step_run_id, v.what) for v in verification.judge().violations
            ]
            raise AssertionError(broken or (execute(MISBOOKED), execute(NOT_ALONE)))

    def settle(self) -> None:
        """No more faults: every worker of before is gone, time passes, messages arrive."""
        self.held.clear()
        lanes.resume(slug=DEPARTMENT)
        for run in Run.objects.filter(state="paused"):
            runs.resume(run_id=run.pk, actor="model")
        before: list[tuple] = []
        while before != (before := self.digest()):
            execute(EXPIRED)
            execute(DUE)
            self.tick()
            self.find_lost()
            while self.messages:
                holder = self.deliver(0, size=4)
                if holder is not None:
                    self.run(holder)
            self.check()
