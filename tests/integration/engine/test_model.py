"""The model test: whatever happens, in whatever order, the contract holds and every run ends.

`MODEL_EXAMPLES=2000` plays more, `MODEL_SEED=random` other ones; a failure prints the steps.
"""

from __future__ import annotations

import os
import secrets
import time

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from engine import batches, execution, heartbeat, policies, publishing, registry
from engine.transitions import claims, completions
from tests.model import graphs
from tests.model.machine import Platform
from tests.model.script import Heart, Script, clock, heart
from tests.model.world import World, execute

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "200"))
#: Fixed, so that a run of the tests says the same twice; printed, so that any run can be repeated.
SEED = os.environ.get("MODEL_SEED", "3")
#: Rules per example.
STEPS = 30
#: What must have happened in so many examples, if they are to be believed.
ENOUGH = 200
NEEDED = (
    "claimed",
    "message refused",
    "chunk claimed",
    "left out, alone",
    "sticky",
    "group commit of 2+",
    "handed back",
    "shown",
    "chunk lost",
    "chunk lost, found",
    "chunk lost, with successors",
    "alone",
    "told to succeed",
    "told to fail",
    "told to give up",
    "told to die",
    "zombie refused",
    "chunk zombie refused",
    "two holders",
    "reaped",
    "woken",
    "lost message found",
    "sent again",
    "run paused",
    "map of 0",
    "map of 2",
    "requeued",
    "discarded",
    "run succeeded",
    "run failed",
    "run cancelled",
    "run timed_out",
    "run blocked",
)


@pytest.fixture
def model(legal_moves_only, monkeypatch, settings):
    """Steps of the model's own, and a world in which time passes only when it is told to."""
    monkeypatch.setattr(registry, "steps", dict(registry.steps))
    monkeypatch.setattr(registry, "automations", dict(registry.automations))
    monkeypatch.setattr(policies, "CRASH_DELAY_SECONDS", 3600.0)
    monkeypatch.setattr(publishing, "_publisher", publishing._publisher)
    settings.LEASE_SECONDS = 3600.0
    for module in (batches, completions, execution, heartbeat):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(execution, "heart", heart)
    monkeypatch.setattr(completions, "complete", _counted(completions.complete))
    monkeypatch.setattr(completions, "expand", _expanded(completions.expand))
    monkeypatch.setattr(claims, "hand_back", _handed_back(claims.hand_back))
    Heart.start()
    graphs.declare_steps()
    execute("CREATE TABLE IF NOT EXISTS model_ledger (run_id uuid, step text, map_index int)")
    World.seen.clear()
    yield
    Heart.stop()
    execute("DROP TABLE model_ledger")
    execute("RESET plan_cache_mode; RESET jit")


def _counted(original):
    def complete(**values):
        found = original(**values)
        clock.now += Script.writing
        World.seen["group commit of 2+"] += len(found.done) > 1
        World.seen["sticky"] += len(found.held)
        return found

    return complete


def _expanded(original):
    def expand(**values):
        found = original(**values)
        World.seen[f"map of {len(values['items'])}"] += found is not None
        return found

    return expand


def _handed_back(original):
    def hand_back(**values):
        found = original(**values)
        World.seen["handed back"] += len(found)
        return found

    return hand_back


@pytest.mark.timeout(3600)
def test_model__every_interleaving_keeps_the_contract(model):
    number = secrets.randbelow(2**32) if SEED == "random" else int(SEED)
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    print(f"\nMODEL_SEED={number} MODEL_EXAMPLES={EXAMPLES}")
    began = time.monotonic()
    seed(number)(Platform)
    run_state_machine_as_test(Platform, settings=chosen)
    took = time.monotonic() - began
    print(f"{EXAMPLES} examples in {took:.0f} s: {dict(sorted(World.seen.items()))}")
    if EXAMPLES >= ENOUGH:
        assert [what for what in NEEDED if not World.seen[what]] == []
