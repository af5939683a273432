"""What web, manager and workers show on /metrics, against the committed list (metrics.toml)."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.stack import TLS
from tests.eventually import eventually

if TYPE_CHECKING:
    import psutil
    from prometheus_client.metrics_core import Metric

LIST = tomllib.loads((Path(__file__).parent / "metrics.toml").read_text())
PORTS = {"web": 8000, "manager": 8080, "worker": 8090}
#: What django-prometheus and prometheus_client say of themselves and of Django.
FOREIGN = ("django_", "python_", "process_")
#: Ids, moments and the like: whatever differs from run to run.
UNBOUNDED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|\d{5,}|[0-9a-f]{16}")
pytestmark = pytest.mark.timeout(240)


def scrape(stack, process: str) -> dict[str, Metric]:
    """Return the families of which a process shows values, by the name that the list has."""
    answer = httpx.get(
        f"http://127.0.0.1:{PORTS[process] + stack.shift}/metrics", timeout=5, verify=TLS
    )
    assert answer.status_code == 200
    found = {}
    for family in text_string_to_metric_families(answer.text):
        suffix = "_total" if family.type == "counter" else ""
        if family.samples:
            found[family.name.removesuffix(suffix) + suffix] = family
    return found


def value(stack, process: str, name: str, **labels: str) -> float:
    """Return the sum of the samples of this name that have these labels."""
    return sum(
        sample.value
        for family in scrape(stack, process).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def series(stack) -> set[tuple]:
    """Return every series there is: process, name of the sample, labels."""
    return {
        (process, sample.name, *sorted(sample.labels.items()))
        for process in PORTS
        for family in scrape(stack, process).values()
        for sample in family.samples
    }


def exporter_of(stack) -> psutil.Process:
    """Return the process beside the worker that shows its metrics."""
    found = stack.find("worker").children()
    (exporter,) = [child for child in found if "orchestration.exporter" in child.cmdline()]
    return exporter


def folder_of(exporter: psutil.Process) -> Path:
    """Return where the children of its worker count."""
    words = exporter.cmdline()
    return Path(words[words.index("orchestration.exporter") + 1])


@pytest.fixture(scope="module")
def worked(stack, tmp_path_factory):
    """The stack after work of every kind: good, failed, cancelled, by API and by event."""
    folder = tmp_path_factory.mktemp("steps")
    good = stack.submit("lab.squares", count=5)
    dead = stack.submit("lab.fragile", folder=str(folder))
    waiting = stack.submit("lab.patient", folder=str(folder), seconds=60)
    eventually(lambda: stack.count(waiting, "running", "patient") == 1, within=20)
    stack.redis().xadd(
        "automation.events",
        {
            "event_type": "automation.run.requested",
            "automation": "lab.squares",
            "data": json.dumps({"count": 2}),
        },
    )
    stack.reaches(good, "succeeded")
    stack.reaches(dead, "blocked")
    assert stack.call("POST", f"/runs/{waiting}/cancel").status_code == 200
    stack.reaches(waiting, "cancelled")
    assert stack.call("GET", "/runs/0190-no-such-run").status_code == 404
    assert httpx.get(f"{stack.url}/no/such/page", verify=TLS).status_code == 404
    # The manager samples every five seconds, web looks every two.
    eventually(lambda: value(stack, "web", "dead_letters", department="lab") >= 1, within=15)
    eventually(lambda: value(stack, "manager", "manager_planning_duration_seconds_count"), within=9)
    return stack


@pytest.mark.parametrize("process", PORTS)
def test_metrics__are_those_of_the_list(worked, process):
    found = {
        name: family
        for name, family in scrape(worked, process).items()
        if not name.startswith(FOREIGN)
    }
    listed = {name: entry for name, entry in LIST.items() if process in entry["of"]}
    expected = {name for name, entry in listed.items() if process not in entry.get("silent", ())}
    assert expected <= set(found), f"missing: {sorted(expected - set(found))}"
    assert set(found) <= set(listed), f"not in the list: {sorted(set(found) - set(listed))}"
    for name, family in found.items():
        assert family.type == listed[name]["type"], name
        assert family.documentation, name
        for sample in family.samples:
            labels = set(sample.labels) - ({"le"} if family.type == "histogram" else set())
            assert labels == set(listed[name]["labels"]), sample


def test_metrics__have_values_where_something_has_happened(worked):
    lab = {"department": "lab"}
    for status in ("succeeded", "cancelled"):
        assert value(worked, "manager", "automation_runs_total", status=status, **lab) >= 1
    assert value(worked, "manager", "automation_run_duration_seconds_count", **lab) >= 3
    for outcome in ("succeeded", "retried", "dead", "cancelled"):
        assert value(worked, "worker", "automation_steps_total", outcome=outcome, **lab) >= 1
    counted = value(worked, "worker", "automation_steps_total", **lab)
    assert value(worked, "worker", "automation_step_duration_seconds_count", **lab) == counted
    assert value(worked, "worker", "automation_step_wait_seconds_count", **lab) == counted
    assert value(worked, "web", "workers_online", queue="lab") == 1
    assert value(worked, "web", "db_connection_pool", state="max") >= 1
    assert value(worked, "web", "redis_eviction_ok") == 1
    assert 0 < value(worked, "web", "redis_memory_ratio") < 1
    assert value(worked, "web", "django_migrations_applied_total") > 10
    assert value(worked, "web", "django_db_execute_total") > 10
    assert 0 < value(worked, "web", "backup_age_seconds") < 3600
    assert value(worked, "web", "manager_sample_age_seconds") < 15
    assert value(worked, "manager", "manager_heartbeat_age_seconds") < 15


def test_steps__are_counted_as_often_as_the_database_has_them(worked):
    statement = (
        "SELECT count(*) FROM engine_steprun WHERE state = 'succeeded' AND kind = 'step'"
        " AND key = %s"
    )

    def difference() -> float:
        counted = value(
            worked, "worker", "automation_steps_total", step="lab.total", outcome="succeeded"
        )
        return worked.rows(statement, "total")[0][0] - counted

    # Not zero where a worker was killed before: its successor counts from nothing.
    before = difference()
    rows = worked.rows(statement, "total")[0][0]
    for run_id in [worked.submit("lab.squares", count=3) for _ in range(8)]:
        worked.reaches(run_id, "succeeded")
    eventually(lambda: difference() == before, within=30)
    assert worked.rows(statement, "total")[0][0] >= rows + 8


def test_labels__are_bounded_whatever_is_asked_for(worked):
    def noise(n: int) -> None:
        for i in range(n):
            for path in (
                *(f"/runs/{i:08x}-0000-7000-8000-000000000000", f"/runs?cursor={i}&tag=t{i}"),
                *(f"/departments/nobody-{i}", f"/automations/lab.unknown{i}"),
                *(f"/admin/engine/run/{i}/change/", f"/nowhere/{i}/{i * 7919}"),
            ):
                worked.call("GET", path)
            httpx.request(f"VERB{i}", f"{worked.url}/runs", verify=TLS)
            httpx.get(f"{worked.url}/livez", headers={"Host": f"h{i}.example"}, verify=TLS)
        done = [worked.submit("lab.squares", count=1) for _ in range(3)]
        for run_id in done:
            worked.reaches(run_id, "succeeded")

    noise(1)
    eventually(lambda: value(worked, "web", "queue_depth", queue="lab") == 0, within=30)
    before = series(worked)
    noise(15)
    more = series(worked) - before
    # A state of a connection, or a bucket of time, may be met for the first time; nothing else.
    assert {name for _process, name, *_labels in more} <= {"db_connections"}, more
    strange = [
        one
        for one in series(worked)
        for label, text in one[2:]
        if label != "le" and UNBOUNDED.search(text)
    ]
    assert strange == []


def test_worker_metrics__outlive_the_children_that_counted(worked):
    def counted() -> float:
        return value(worked, "worker", "automation_steps_total", outcome="succeeded")

    for run_id in [worked.submit("lab.squares", count=20) for _ in range(3)]:
        worked.reaches(run_id, "succeeded")
    before = counted()
    victims = worked.pool("worker")
    for child in victims:
        child.kill()
    gone = {child.pid for child in victims}
    eventually(
        lambda: (pool := {c.pid for c in worked.pool("worker")}) and not pool & gone, within=30
    )
    assert counted() >= before > 60
    run_id = worked.submit("lab.squares", count=4)
    worked.reaches(run_id, "succeeded")
    eventually(lambda: counted() >= before + 5, within=10)
    # What the dead ones left is kept in one file a type, so that there are never many.
    folder = folder_of(exporter_of(worked))

    def folded() -> bool:
        pids = {int(path.stem.rpartition("_")[2]) for path in folder.glob("*.db")}
        return not pids & gone and 0 in pids

    eventually(folded, within=30, what=f"fold {folder}")
    assert counted() >= before + 5


def test_worker_metrics__are_shown_again_when_the_exporter_ends(worked):
    exporter = exporter_of(worked)
    assert worked.find("worker").num_threads() == 1, "its fork would tear another one in half"
    before = value(worked, "worker", "automation_steps_total")
    exporter.kill()

    def again() -> bool:
        try:
            return value(worked, "worker", "automation_steps_total") >= before
        except httpx.HTTPError:
            return False

    eventually(lambda: not exporter.is_running(), within=10)
    eventually(again, within=20)
