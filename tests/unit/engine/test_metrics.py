"""What is counted of steps, and that what comes from outside cannot make endless series."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Histogram

from engine import metrics

VALUES = [0.0, 0.1, 0.1000001, 0.5, 3.0, 99.0, 100.0, 1e9]


def shown(registry: CollectorRegistry) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("values", [[], VALUES[:1], VALUES, VALUES * 20])
def test_grouped_histogram__says_what_single_observations_say(values):
    found = []
    for kind in (metrics.GroupedHistogram, Histogram):
        registry = CollectorRegistry()
        histogram = kind("h", "help", ["a"], registry=registry, buckets=(0.1, 0.5, 100.0))
        child = histogram.labels("x")
        if kind is Histogram:
            for value in values:
                child.observe(value)
        else:
            child.observe_each(values)
        found.append(shown(registry))
    assert found[0] == pytest.approx(found[1])


def test_models__beyond_the_bound_are_counted_together(monkeypatch):
    monkeypatch.setattr(metrics, "_models", set())
    monkeypatch.setattr(metrics, "MAX_MODELS", 3)
    for number in range(10):
        metrics.model_called(
            department="test",
            model=f"model-{number}",
            input_tokens=10,
            output_tokens=1,
            cost_usd=0.5,
        )
    costs = {
        sample.labels["model"]: sample.value
        for sample in metrics.LLM_COST.collect()[0].samples
        if sample.name == "llm_cost_usd_total" and sample.labels["department"] == "test"
    }
    assert costs == {"model-0": 0.5, "model-1": 0.5, "model-2": 0.5, metrics.OTHER: 3.5}
