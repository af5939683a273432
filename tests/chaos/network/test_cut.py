"""The completion's COMMIT reaches the server and its answer is lost (crash point 12)."""

from __future__ import annotations

import pytest

from engine import runs
from engine.models import Run, StepRun
from tests.chaos.network.platform import BOUND, Platform, now
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)
COUNT = 6
DONE, OUTPUT = "SET state = 'succeeded'", "INSERT INTO engine_stepoutput"


@pytest.fixture
def behind(database_proxy, ledger, started):
    """A worker and a manager behind the proxy."""
    found = Platform(started, DATABASE_URL=database_proxy.url)
    yield found
    database_proxy.heal()


def completes(statement: str) -> bool:
    return DONE in statement and OUTPUT in statement


def is_commit_of_a_writing_step(before: str, statement: str) -> bool:
    return statement == "COMMIT" and completes(before)


def is_completion_of_a_pure_step(_before: str, statement: str) -> bool:
    return completes(statement)


#: By automation: the statement that is cut, and the step it completes.
CUTS = {
    "lab.booking": (is_commit_of_a_writing_step, "book"),
    "lab.squares": (is_completion_of_a_pure_step, "square"),
}


@pytest.mark.parametrize("automation", CUTS)
def test_point_12__the_commit_stands_and_its_answer_is_lost(
    behind, database_proxy, ledger, automation
):
    matches, mapped = CUTS[automation]
    database_proxy.cut_once(matches)
    since = now()
    run_id = runs.submit(automation=automation, input={"count": COUNT}, trigger="command").run_id
    eventually(lambda: Run.objects.get(pk=run_id).state == "succeeded", within=60)
    took = (Run.objects.get(pk=run_id).finished_at - since).total_seconds()
    print(f"\ncut after the COMMIT, {automation}: run ended after {took:.1f} s (bound {BOUND:g} s)")
    assert database_proxy.cuts == 1
    assert took <= BOUND
    steps = StepRun.objects.filter(run_id=run_id, kind="step")
    assert steps.filter(key=mapped, state="succeeded").count() == COUNT
    assert not steps.exclude(attempt=1, crashes=0, failures=0).exists(), "found out by the claim"
    if automation == "lab.booking":
        assert ledger() == [("book", index) for index in range(COUNT)]
    assert behind.worker.poll() is None
    assert behind._children() == behind.children
