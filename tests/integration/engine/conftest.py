"""Fixtures of the engine's tests."""

from __future__ import annotations

import pytest

from engine import registry
from tests.declared import declare_step


@pytest.fixture
def shop(monkeypatch):
    """A registry that this test may add to, and a declarer of single steps."""
    monkeypatch.setattr(registry, "steps", dict(registry.steps))
    monkeypatch.setattr(registry, "automations", dict(registry.automations))
    return declare_step
