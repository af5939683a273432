"""The oracle: what was accepted against what the database holds, and what the steps left behind."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.acceptance.stack import ROOT
from tests.chaos.soak import load

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import psycopg

    from tests.chaos.soak.load import Ticket
    from tests.chaos.soak.platform import Platform

RUN_ENDED = ("succeeded", "failed", "cancelled", "timed_out")
STEP_ENDED = ("succeeded", "failed", "dead", "cancelled", "skipped")
INVARIANTS_SECONDS = 120
#: Lines kept of what it says.
SHOWN = 40

RUNS = "SELECT id::text, automation, dedupe_key, state FROM engine_run"
OUTPUTS = """
SELECT r.dedupe_key, o.value FROM engine_run r
JOIN engine_steprun s ON s.run_id = r.id AND s.kind = 'step' AND s.map_index = -1
JOIN engine_stepoutput o ON o.step_run_id = s.id
WHERE r.state = 'succeeded' AND split_part(r.automation, '.', 2) = %s AND s.key = %s
"""
OPEN_STEPS = """
SELECT r.dedupe_key, s.key, s.map_index, s.state FROM engine_steprun s
JOIN engine_run r ON r.id = s.run_id WHERE r.state = ANY(%s) AND s.state <> ALL(%s)
"""
UNDONE_STEPS = """
SELECT r.dedupe_key, s.key, s.map_index, s.state FROM engine_steprun s
JOIN engine_run r ON r.id = s.run_id WHERE r.state = 'succeeded' AND s.state <> 'succeeded'
"""
SUCCEEDED = """
SELECT s.run_id::text, s.key, s.map_index FROM engine_steprun s
WHERE s.kind = 'step' AND s.state = 'succeeded'
"""
# Without the help of an index: the key of the ledger must not be both rule and witness.
DOUBLES = """
SELECT run_id::text, step, map_index, count(*) FROM soak_tally
GROUP BY run_id, step, map_index HAVING count(*) > 1
"""
MISSING_EFFECTS = """
SELECT r.dedupe_key, s.key, s.map_index FROM engine_steprun s JOIN engine_run r ON r.id = s.run_id
WHERE s.kind = 'step' AND s.state = 'succeeded' AND s.lane = %s AND NOT EXISTS (
    SELECT 1 FROM soak_ledger l
    WHERE l.run_id = s.run_id AND l.step = s.key AND l.map_index = s.map_index)
"""
STRAY_EFFECTS = """
SELECT l.run_id::text, l.step, l.map_index FROM soak_ledger l WHERE NOT EXISTS (
    SELECT 1 FROM engine_steprun s WHERE s.run_id = l.run_id AND s.key = l.step
      AND s.map_index = l.map_index AND s.state = 'succeeded')
"""
LEFT = {
    "leases": "SELECT count(*) FROM engine_lease",
    "messages of the outbox": "SELECT count(*) FROM engine_outboxevent",
}


@dataclass
class Verdict:
    """What is wrong, by heading; nothing is wrong when every list is empty."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    invariants: list[str] = field(default_factory=list)
    #: What is worth saying although nothing is wrong with it.
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, list[str]]:
        """Return the headings under which something is wrong."""
        names = ("lost", "doubled", "stuck", "wrong", "invariants")
        return {name: found for name in names if (found := getattr(self, name))}


def judge(connection: psycopg.Connection, tickets: Iterable[Ticket], folder: Path) -> Verdict:
    """Compare everything that was asked for with everything that is there."""
    verdict = Verdict()
    asked = list(tickets)
    _runs(connection, asked, verdict)
    _outputs(connection, asked, verdict)
    _steps(connection, verdict)
    _effects(connection, folder, verdict)
    _bodies(connection, folder, verdict)
    return verdict


def _runs(connection: psycopg.Connection, asked: list[Ticket], verdict: Verdict) -> None:
    """Compare the runs: each accepted one is there once, at an end it may have."""
    there: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for run_id, automation, key, state in connection.execute(RUNS):
        there.setdefault((automation, key), []).append((run_id, state))
    ends: Counter[tuple[str, str]] = Counter()
    for ticket in asked:
        found = there.pop((ticket.automation, ticket.dedupe_key), [])
        if not ticket.accepted_at:
            if ticket.dedupe_key:
                verdict.stuck.append(f"{ticket.key}: asked for by {ticket.door}, never answered")
            continue
        if not found:
            verdict.lost.append(f"{ticket.key}: accepted by {ticket.door}, no such run")
            continue
        if len(found) > 1:
            verdict.doubled.append(f"{ticket.key}: {len(found)} runs")
        run_id, state = found[0]
        if run_id != ticket.run_id:
            verdict.lost.append(f"{ticket.key}: answered as {ticket.run_id}, there as {run_id}")
        ends[(ticket.kind, state)] += 1
        if state not in RUN_ENDED:
            verdict.stuck.append(f"{ticket.key} ({ticket.kind}): run {run_id} is {state}")
        elif state not in ticket.ends:
            verdict.wrong.append(f"{ticket.key} ({ticket.kind}): run {run_id} ended {state}")
    verdict.doubled.extend(f"{key[1]}: nobody asked for {found}" for key, found in there.items())
    verdict.figures["ends"] = ends


def _outputs(connection: psycopg.Connection, asked: list[Ticket], verdict: Verdict) -> None:
    """Compare the outputs of the runs that succeeded with what they must be."""
    outputs: dict[str, Any] = {}
    for shape, sink in load.SINKS.items():
        outputs |= dict(connection.execute(OUTPUTS, [shape, sink]).fetchall())
    succeeded = {
        key
        for (key,) in connection.execute(
            "SELECT dedupe_key FROM engine_run WHERE state = 'succeeded'"
        )
    }
    checked = 0
    for ticket in asked:
        if ticket.dedupe_key in succeeded:
            checked += 1
            output = outputs.get(ticket.dedupe_key)
            if output != ticket.expected:
                verdict.wrong.append(f"{ticket.key}: output {output}, not {ticket.expected}")
    verdict.figures["outputs checked"] = checked


def _steps(connection: psycopg.Connection, verdict: Verdict) -> None:
    """Look for steps that are open in a run that has ended, or not done in one that succeeded."""
    for statement, values in (
        (OPEN_STEPS, [list(RUN_ENDED), list(STEP_ENDED)]),
        (UNDONE_STEPS, []),
    ):
        for key, step, index, state in connection.execute(statement, values):
            verdict.stuck.append(f"{key}: step {step}[{index}] is {state} in a run that ended")
    for what, statement in LEFT.items():
        (number,) = connection.execute(statement).fetchone()
        if number:
            verdict.stuck.append(f"{number} {what} left")
    steps = connection.execute("SELECT state, count(*) FROM engine_steprun GROUP BY 1").fetchall()
    verdict.figures["steps"] = dict(steps)


def _effects(connection: psycopg.Connection, folder: Path, verdict: Verdict) -> None:
    """Compare the ledger: one row a succeeded writing step, none of any other."""
    violations = folder / "violations.log"
    if violations.exists():
        lines = violations.read_text().splitlines()
        verdict.doubled.extend(f"refused by the ledger's key: {line}" for line in lines)
    for run_id, step, index, number in connection.execute(DOUBLES):
        verdict.doubled.append(f"{number} effects of {step}[{index}] in run {run_id}")
    for key, step, index in connection.execute(MISSING_EFFECTS, [load.WRITING]):
        verdict.lost.append(f"{key}: {step}[{index}] succeeded, its effect is not there")
    for run_id, step, index in connection.execute(STRAY_EFFECTS):
        verdict.wrong.append(f"effect of {step}[{index}] in run {run_id}, which did not succeed")
    (verdict.figures["effects"],) = connection.execute(
        "SELECT count(*) FROM soak_ledger"
    ).fetchone()


def _bodies(connection: psycopg.Connection, folder: Path, verdict: Verdict) -> None:
    """Compare the side log: every succeeded step's body ran, at least once."""
    ran: Counter[tuple[str, str, int]] = Counter()
    for log in (folder / "side").glob("*.log"):
        for line in log.read_text().splitlines():
            run_id, step, index, _attempt = line.split()
            ran[(run_id, step, int(index))] += 1
    for key in connection.execute(SUCCEEDED):
        if key not in ran:
            verdict.wrong.append(f"{key[1]}[{key[2]}] of run {key[0]} succeeded and never ran")
    verdict.figures["bodies run"] = ran.total()
    verdict.figures["bodies run again"] = ran.total() - len(ran)


def invariants(platform: Platform, verdict: Verdict) -> None:
    """Ask the platform's own judge."""
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", "check_invariants"],
            cwd=ROOT,
            env=platform.stack.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=INVARIANTS_SECONDS,
        )
    except subprocess.TimeoutExpired:
        verdict.figures["check_invariants"] = "no answer"
        verdict.invariants.append(f"no answer within {INVARIANTS_SECONDS} s")
        return
    verdict.figures["check_invariants"] = "clean" if done.returncode == 0 else "broken"
    if done.returncode != 0:
        verdict.invariants.extend((done.stdout + done.stderr).splitlines()[-SHOWN:])
