"""The world around the engine as the model plays it: a broker that is a list, workers, time.

Everything that changes a row goes through the engine's own doors, on real SQL; only the moments in
the rows (a lease, a backoff, a deadline) are moved into the past instead of being waited for.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from django.db import connection

from engine import execution, lanes, leases, publishing, registry, runs, sql
from engine.invariants import surveys, verification
from engine.models import Lane, Run, StepRun
from engine.states import RUN_CLAIMABLE
from tests.model import graphs
from tests.model.graphs import DEPARTMENT, KilledError, Script

if TYPE_CHECKING:
    from engine.transitions.claims import Claimed

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

    #: What happened in all worlds of this test: a model in which nothing happens proves nothing.
    seen: Counter[str] = Counter()

    def __init__(self) -> None:
        # Planned once for all examples, and never compiled: the tables are small.
        execute("SET plan_cache_mode = force_generic_plan; SET jit = off")
        execute("; ".join(f"DELETE FROM {table}" for table in TABLES))
        runs._forget_versions()
        self.messages: list[publishing.ReadyStep] = []
        #: Claims whose worker has not ended them, and may still try to, however late.
        self.held: list[Claimed] = []
        self.cancelled: set = set()
        self.deaf = False
        #: Whether so much waits that the manager sends what is new.
        self.backed_up = False
        publishing.register(self)
        lanes.declare(slug=DEPARTMENT, queue=DEPARTMENT)

    def publish(self, steps) -> None:
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

    def claim(self, step_run_id: int) -> Claimed | None:
        """Deliver a message; what may not begin must not be claimed."""
        row = StepRun.objects.select_related("run").get(pk=step_run_id)
        lane = Lane.objects.get(pk=DEPARTMENT)
        may_begin = (
            row.state in {"ready", "queued"}
            and row.claim is None
            and row.run.state in RUN_CLAIMABLE
            and row.run_id not in self.cancelled
            and not lane.paused
            and not (lane.max_concurrency is not None and row.state == "ready")
        )
        found = leases.claim(step_run_ids=[step_run_id], worker="model/1")
        assert len(found) == int(may_begin), f"{row} of a {row.run.state} run: {found}"
        if not found:
            self.seen["message refused"] += 1
            return None
        self.held.append(found[0])
        self.seen["claimed"] += 1
        return found[0]

    def end(self, step: Claimed, outcome: str) -> None:
        """Let a worker run the step it once claimed; without the claim it must write nothing."""
        self.held.remove(step)
        lost = not StepRun.objects.filter(pk=step.id, claim=step.claim, state="running").exists()
        before = self.digest() if lost else None
        Script.outcome = outcome
        with suppress(KilledError):
            execution.run([step])
        if step.kind == "map" and not lost:
            items = StepRun.objects.filter(run_id=step.run_id, key=step.key, map_index__gte=0)
            self.seen[f"map of {items.count()}"] += 1
        if lost:
            assert self.digest() == before, "a zombie has written"
        self.seen["zombie refused" if lost else f"told to {outcome}"] += 1

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
        if sql.rows(ALL_SURVEYS, self.plans) or execute(MISBOOKED):
            broken = [
                (v.check.name, v.step_run_id, v.what) for v in verification.judge().violations
            ]
            raise AssertionError(broken or execute(MISBOOKED))

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
                step = self.claim(self.messages.pop(0).id)
                if step is not None:
                    self.end(step, "succeed")
            self.check()
