"""Any order of acts and accidents keeps the contract, and everything comes to an end.

MODEL_EXAMPLES=2000 for a long search, each time another one; 200 of a fixed kind otherwise.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from engine import publishing, registry
from tests.integration.model import machine

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "200"))
ACTS = 30


@pytest.fixture
def world(legal_moves_only, ledger, monkeypatch):
    """An empty platform whose tables refuse every move that is not in `engine.states`."""
    monkeypatch.setattr(registry, "automations", dict(registry.automations))
    before = publishing._publisher
    yield
    publishing.register(before)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_platform__keeps_its_promises_whatever_happens_in_whatever_order(world):
    run_state_machine_as_test(
        machine.Platform,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=ACTS,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
