"""Judge a live database: read-only, in one snapshot, in bounded time.

One REPEATABLE READ snapshot, because rows move all the while: counters and the rows they count are
compared as of the same moment. Nothing is locked and nothing is written.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import transaction

from engine import sql
from engine.errors import EngineError
from engine.graph import Graph
from engine.invariants import guards, histories, plans, steps, surveys

if TYPE_CHECKING:
    from uuid import UUID

    from engine.invariants.surveys import Check

surveys.add(
    plans.RUNS,
    steps.STEPS,
    plans.MAPS,
    steps.LEASES,
    histories.STEPS,
    histories.RUNS,
    histories.CANCELS,
    histories.EFFECTS,
    guards.GUARDS,
)

#: Rows listed per check, and seconds allowed in all, unless said otherwise.
LIMIT, TIMEOUT_SECONDS = 20, 300.0
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
#: Memory for one sort or hash, and no compilation: on a small database it costs more than it saves.
SETTINGS = ("SET LOCAL work_mem = '64MB'", "SET LOCAL jit = off")
COUNT = """
SELECT (SELECT count(*) FROM engine_run) AS runs, (SELECT count(*) FROM engine_steprun) AS steps
"""
#: What no snapshot can show, and what stands in for it.
NOT_JUDGED = {
    "I6": "Losing or doubling messages changes latency only: shown by the model test, the crash"
    " points 5, 6 and 8 and the soak (tests/model, tests/chaos).",
    "I12": "No clock or counter of Redis or of a worker is trusted: every moment in these tables is"
    " the database's clock_timestamp(), held by review and the crash points 14 and 18.",
}
#: What is judged, with a limit: said wherever the result is shown.
LIMITS = {
    "I2": "judged by what the rows hold, not by time: whether the processes live is /health's.",
    "I7": "what an outside system received is its own to say; here: keys and numbers of attempts.",
    "I11": "fires once each; whether misses were made up for by policy is shown by tests.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One row that breaks an invariant."""

    check: Check
    run_id: UUID | None
    step_run_id: int | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found: a bounded list of rows, and how many break each check in all."""

    runs: int
    steps: int
    seconds: float
    violations: list[Violation]
    totals: dict[str, int]

    @property
    def clean(self) -> bool:
        """Whether nothing is broken."""
        return not self.totals


class NotVerifiedError(EngineError):
    """Say that the database was too large for the time allowed: nothing is known of it."""

    code = "not_verified"


def verify(*, limit: int = LIMIT, timeout_seconds: float = TIMEOUT_SECONDS) -> Report:
    """Judge the database as of this moment; list at most `limit` rows per check.

    Call it outside a transaction. Raises NotVerifiedError when `timeout_seconds` were not enough.
    """
    try:
        with transaction.atomic(durable=True):
            sql.count(SNAPSHOT)
            for setting in SETTINGS:
                sql.count(setting)
            return judge(limit=limit, timeout_seconds=timeout_seconds)
    except psycopg.errors.QueryCanceled as exc:
        raise NotVerifiedError(
            f"Not verified within {timeout_seconds:g} s; allow more with --timeout."
        ) from exc


def judge(*, limit: int = LIMIT, timeout_seconds: float = TIMEOUT_SECONDS) -> Report:
    """Make every survey in the transaction that is open: what `verify` does in its snapshot."""
    began = time.monotonic()
    known = {check.name: check for check in surveys.checks()}
    violations: list[Violation] = []
    totals: dict[str, int] = {}
    values = {"limit": limit, **_plans()}
    for survey in surveys.surveys.values():
        _allow(timeout_seconds - (time.monotonic() - began))
        for row in sql.rows(survey.statement, {**values, **survey.parameters()}):
            check = known[row.name]
            totals[check.name] = row.total
            violations.append(
                Violation(
                    check=check,
                    run_id=row.run_id,
                    step_run_id=row.step_run_id,
                    what=check.says.format(**sql.parsed(row.facts)),
                )
            )
    counted = sql.rows(COUNT)[0]
    return Report(
        runs=counted.runs,
        steps=counted.steps,
        seconds=time.monotonic() - began,
        violations=violations,
        totals=totals,
    )


def _allow(seconds: float) -> None:
    """Give the next statement what is left of the time: a moment at least, in which it fails."""
    milliseconds = max(round(seconds * 1000), 1)
    sql.rows("SELECT set_config('statement_timeout', %(ms)s, true)", {"ms": f"{milliseconds}ms"})


def _plans() -> dict[str, list[Any]]:
    """Return nodes and edges of every stored version, as the arrays that the statements unnest."""
    found: dict[str, list[Any]] = {
        "node_versions": [],
        "node_keys": [],
        "node_kinds": [],
        "node_sinks": [],
        "edge_versions": [],
        "edge_parents": [],
        "edge_children": [],
    }
    for row in sql.rows("SELECT id, graph FROM engine_automationversion"):
        graph = Graph.load(sql.parsed(row.graph))
        for node in graph.nodes:
            found["node_versions"].append(row.id)
            found["node_keys"].append(node.key)
            found["node_kinds"].append("map" if node.mapped else "step")
            found["node_sinks"].append(node.key in graph.sinks)
            for parent in node.parents:
                found["edge_versions"].append(row.id)
                found["edge_parents"].append(parent)
                found["edge_children"].append(node.key)
    return found
