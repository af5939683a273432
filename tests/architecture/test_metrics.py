"""The list of metrics against what the code declares, and against the names people depend on."""

from __future__ import annotations

import tomllib
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from config import exposition, telemetry
from engine import metrics as of_steps
from orchestration import breakers, metrics, repairs
from orchestration.manager import counters

LIST = tomllib.loads(
    (Path(__file__).resolve().parents[1] / "acceptance" / "metrics.toml").read_text()
)
#: Fixed by the operations contract (section 4): dashboards, alerts and scripts name them.
FIXED = {
    *("api_requests_total", "api_request_latency_seconds", "api_errors_total"),
    *("redis_stream_lag_seconds", "redis_stream_pending", "queue_depth"),
    *("queue_oldest_age_seconds", "db_connections", "db_connection_pool"),
    *("manager_planning_duration_seconds", "manager_heartbeat_age_seconds"),
    *("automation_runs_total", "automation_run_duration_seconds", "automation_steps_total"),
    *("automation_step_duration_seconds", "automation_step_wait_seconds", "dead_letters"),
    *("workers_online", "llm_tokens_total", "llm_cost_usd_total", "runs_stuck"),
    *("backup_age_seconds", "redis_memory_ratio", "redis_eviction_ok"),
}
ROOMS = (telemetry, exposition, of_steps, breakers, repairs, counters)


def declared() -> dict[str, tuple[str, list[str]]]:
    """Return type and labels of what the rooms declare, by name."""
    found = {}
    for room in ROOMS:
        for value in vars(room).values():
            if isinstance(value, MetricWrapperBase):
                suffix = "_total" if value._type == "counter" else ""
                found[value._name + suffix] = (value._type, list(value._labelnames))
    return found | {name: ("gauge", labels) for name, (_help, labels) in metrics.GAUGES.items()}


def test_metrics__of_the_contract_are_all_in_the_list():
    assert set(LIST) >= FIXED, FIXED - set(LIST)


def test_metrics__that_the_code_declares_are_listed_as_they_are():
    found = declared()
    assert len(found) > 20
    for name, (kind, labels) in found.items():
        assert name in LIST, f"{name} is not in tests/acceptance/metrics.toml"
        assert (LIST[name]["type"], LIST[name]["labels"]) == (kind, labels), name


def test_metrics__are_declared_in_the_rooms_looked_at():
    """A counter declared elsewhere would be in nobody's list."""
    foreign = ("django_", "python_", "process_")
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if not family.name.startswith(foreign)
    }
    assert names <= set(declared())
